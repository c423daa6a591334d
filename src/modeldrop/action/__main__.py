"""``python -m modeldrop.action STEP``: the steps of ``action.yml``; see the package."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from modeldrop.action import github
from modeldrop.action.event import WorkflowEvent, read_event
from modeldrop.action.input_reader import InputsError
from modeldrop.errors import ConflictError, MissingExtraError, ModeldropError, RegistryError, UsageError
from modeldrop.storage.write import interruption
from modeldrop.util.process import end_in_order, exit_code_of

if TYPE_CHECKING:
    from modeldrop.action.inputs import ActionInputs
    from modeldrop.action.result import RunFolder
    from modeldrop.export.environments.virtual import PipCache
    from modeldrop.publishing.request import PublishRequest
    from modeldrop.util.github_api import GitHubApi

_INPUTS = "MODELDROP_INPUTS"
_STATE = "MODELDROP_STATE"
_EXPORTER = "MODELDROP_EXPORTER_PYTHON"
_TOKEN = "MODELDROP_GITHUB_TOKEN"  # noqa: S105  its name
_OUTPUTS = {
    "check": ("state", "matrix", "go"),
    "install": ("python",),
    "plan": ("build", "exporter", "cache-key", "cache-folder"),
    "exporter": ("python",),
    "report": ("upload-name", "keep-name", "show", "comment"),
}
Outputs: TypeAlias = dict[str, str]
"""What a step tells ``action.yml``; the step fills in what is not empty."""


def main() -> int:
    """Run a step; turn failures into annotations and their exit codes."""
    event = read_event(os.environ)
    end_in_order()
    # One pipe keeps the order: what a test prints on the other could come after commands count again.
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    if "RUNNER_TEMP" in os.environ:  # the runner empties it, also where a job is killed
        folder = _temporary() / "modeldrop" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TMPDIR", str(folder))
    step = sys.argv[1]
    # All are set at the end, however it ends: what a test or a model has written beside is no output of ours.
    outputs = dict.fromkeys(_OUTPUTS.get(step, ()), "")
    try:
        _STEPS[step](event, outputs)
    except ModeldropError as error:
        return _fail(error)
    except KeyboardInterrupt as interrupt:
        interruption.free_all()
        github.say("modeldrop: interrupted")
        sys.stdout.flush()
        os._exit(exit_code_of(interrupt))  # without waiting for threads that upload
    except Exception as error:  # noqa: BLE001  a defect must end as an annotation, too
        github.say(traceback.format_exc())
        defect = f"Unexpected {type(error).__name__}: {error}"
        hint = "This is a defect of modeldrop. Report it, with what stands above this line in the log."
        return _fail(ModeldropError(defect, hint))
    finally:
        github.step_outputs(outputs)
    return 0


def _check(event: WorkflowEvent, outputs: Outputs) -> None:
    temporary = _temporary()
    try:
        inputs = _read_inputs(event)
    except InputsError as error:
        outputs["matrix"] = error.matrix
        raise
    temporary.joinpath("modeldrop").mkdir(parents=True, exist_ok=True)
    outputs["state"] = tempfile.mkdtemp(prefix="run-", dir=temporary / "modeldrop")
    inputs.report.save(Path(outputs["state"]))
    outputs["matrix"] = inputs.matrix
    outputs["go"] = "false" if inputs.request is None else "true"


def _install(event: WorkflowEvent, outputs: Outputs) -> None:
    from modeldrop.action.install import install_planner
    from modeldrop.export.environments.virtual import PipCache

    inputs = _read_inputs(event)
    cache = PipCache(none=not event.may_cache)
    python = install_planner(inputs.first_parts, _temporary() / "modeldrop", cache)
    outputs["python"] = str(python)


def _plan(event: WorkflowEvent, outputs: Outputs) -> None:
    from modeldrop.action.steps import explain_sign_in
    from modeldrop.export.environments.exporters import EXPORTERS, exporter_lock
    from modeldrop.export.environments.virtual import PipCache

    api = _github_api()  # takes the token out of the environment before anything else is started
    inputs = _read_inputs(event)
    assert inputs.request is not None  # noqa: S101  check has ended the run else
    github.mask_secrets(os.environ)
    with github.group(f"Plan {inputs.request.model}"):
        try:
            needed = _plan_with_what_it_takes(inputs, inputs.request, PipCache(none=not event.may_cache), api)
        except ModeldropError as error:
            raise explain_sign_in(error, event, os.environ, inputs.parts) from error
    outputs["build"] = "true" if needed else "false"
    if not needed or os.environ.get(_EXPORTER):
        return
    outputs["exporter"] = needed
    hosted = os.environ.get("RUNNER_ENVIRONMENT") == "github-hosted"
    if event.may_cache and hosted:  # a runner that stays has a cache of its own
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        machine = f"{os.environ.get('RUNNER_OS', '')}-{os.environ.get('RUNNER_ARCH', '')}"
        outputs["cache-key"] = f"modeldrop-exporter-{machine}-{version}-{exporter_lock(EXPORTERS[needed])}"
        outputs["cache-folder"] = str(_pip_cache())


def _plan_with_what_it_takes(
    inputs: ActionInputs, request: PublishRequest, cache: PipCache, api: GitHubApi | None
) -> str:
    """Plan with what is installed; where that is not enough, or fails, with the clouds' SDKs, too."""
    from modeldrop.action.install import add_parts, missing_parts
    from modeldrop.action.steps import plan_and_publish

    needed = ""
    if missing_parts(inputs.parts):
        try:
            needed = plan_and_publish(inputs, request, _run_folder(), api)
            if not needed:
                return ""
        except (ConflictError, MissingExtraError, RegistryError) as error:
            github.say(f"Once more, with {', '.join(inputs.parts)}: {error.message}")
        add_parts(inputs.parts, cache)
    return needed or plan_and_publish(inputs, request, _run_folder(), api)


def _exporter(event: WorkflowEvent, outputs: Outputs) -> None:
    from modeldrop.export.environments.exporters import EXPORTERS, install_exporter
    from modeldrop.export.environments.virtual import PipCache

    inputs, name = _read_inputs(event), os.environ["MODELDROP_EXPORTER"]
    cached = bool(os.environ.get("MODELDROP_PIP_CACHE"))
    cache = PipCache(_pip_cache() if cached else None, none=not event.may_cache)
    with github.group(f"Install the exporter: PyTorch for CPUs, {EXPORTERS[name].label}"):
        folder, index = _temporary() / "modeldrop", inputs.torch_index
        python = install_exporter(EXPORTERS[name], folder, github.say, torch_index=index, cache=cache)
    outputs["python"] = str(python)


def _build(event: WorkflowEvent, _: Outputs) -> None:
    from modeldrop.action.install import wrap_exporter
    from modeldrop.action.steps import build_and_publish, explain_sign_in

    run = _run_folder()
    exporter = os.environ.pop("MODELDROP_OWN_EXPORTER", "") or os.environ[_EXPORTER]
    os.environ[_EXPORTER] = str(wrap_exporter(exporter, run.folder))
    inputs = _read_inputs(event)
    assert inputs.request is not None  # noqa: S101  check has ended the run else
    github.mask_secrets(os.environ)
    with github.group(f"Build {inputs.request.model}"):
        try:
            build_and_publish(inputs, inputs.request, run)
        except ModeldropError as error:
            raise explain_sign_in(error, event, os.environ, inputs.parts) from error


def _report(event: WorkflowEvent, outputs: Outputs) -> None:
    from modeldrop.action.kept_builds import artifact_name
    from modeldrop.action.report_settings import load_report_settings
    from modeldrop.action.result import outputs_of

    run = _run_folder()
    result, settings, manifest = run.load(), load_report_settings(run.folder), run.manifest()
    github.set_outputs(outputs_of(result, run))
    own_inputs = manifest is not None and manifest.recipe.inputs is not None
    server = os.environ.get("GITHUB_SERVER_URL", "")
    uploads = bool(run.report()) and settings.uploads(event, server, own_inputs=own_inputs)
    if uploads:
        outputs["upload-name"] = f"modeldrop.report.{result.model}"
    published = any(registry.done for registry in result.registries)
    if settings.keep_build and event.is_pull_request and result.build_folder and not (published or result.failure):
        outputs["keep-name"] = artifact_name(result.model, result.build_key)
    if uploads or settings.comment:
        outputs["show"], outputs["comment"] = "true", "true" if settings.comment else "false"
    else:
        _show(event, outputs)


def _show(event: WorkflowEvent, _: Outputs) -> None:
    """Write the summary, with the address of the report that was uploaded, and the comment on the pull request."""
    from modeldrop.action.report_settings import load_report_settings
    from modeldrop.action.summary import summary_markdown

    api, run = _github_api(), _run_folder()
    settings, result = load_report_settings(run.folder), run.load()
    markdown = summary_markdown(
        result,
        run.manifest(),
        run.comparison(),
        report=os.environ.get("MODELDROP_REPORT_URL", ""),
        show_inputs=settings.show_inputs,
    )
    run.summary.write_text(markdown, "utf-8")
    if settings.summarizes(failed=bool(result.failure)):
        github.append_summary(markdown)
    if api is not None and event.is_pull_request:
        from modeldrop.action.pull_request_comment import keep_comment
        from modeldrop.util.github_api import GitHubError

        try:
            github.say(f"Commented: {keep_comment(api, event, result.model, markdown)}")
        except GitHubError as error:
            github.annotate("warning", "modeldrop: no comment", f"{error.message}\n{error.hint}".strip())


def _github_api() -> GitHubApi | None:
    """GitHub's API, if the step was given a token; nothing that it starts gets that."""
    token = os.environ.pop(_TOKEN, "")
    if not token:
        return None
    from modeldrop.util.github_api import GitHubApi

    url = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    return GitHubApi(url, os.environ.get("GITHUB_REPOSITORY", ""), token)


_STEPS: Mapping[str, Callable[[WorkflowEvent, Outputs], None]] = {
    "check": _check,
    "install": _install,
    "plan": _plan,
    "exporter": _exporter,
    "build": _build,
    "report": _report,
    "show": _show,
}


def _run_folder() -> RunFolder:
    from modeldrop.action.result import RunFolder

    return RunFolder(Path(os.environ[_STATE]))


def _read_inputs(event: WorkflowEvent) -> ActionInputs:
    from modeldrop.action.inputs import read_action_inputs

    # Taken out: what runs below (pip, the exporter, the user's test) need not know it.
    text = os.environ.pop(_INPUTS)
    if len(text) > 1 << 20:
        raise UsageError("The inputs have more than 1 MiB in all.", "Put texts and commands into files.")
    inputs = read_action_inputs(text, event, _temporary())
    os.environ["MODELDROP_SHOW_INPUTS"] = "yes" if inputs.report.show_inputs else "no"
    return inputs


def _temporary() -> Path:
    return Path(os.environ.get("RUNNER_TEMP") or tempfile.gettempdir()).absolute()


def _pip_cache() -> Path:
    return _temporary() / "modeldrop" / "pip"


def _fail(error: ModeldropError) -> int:
    """Say what failed as annotations, and keep it for the report."""
    if os.environ.get("RUNNER_DEBUG") == "1":  # as --debug
        github.say("".join(traceback.format_exception(error)))
    if error.log:
        _show_log(error)
    if isinstance(error, InputsError):
        for problem in error.problems:
            github.annotate("error", f"modeldrop: input {problem.name}", str(problem))
    else:
        github.annotate("error", "modeldrop", f"{error.message}\n{error.hint}".strip())
    _keep_failure(str(error))
    return error.exit_code


def _show_log(error: ModeldropError) -> None:
    """Print what a process left in a file: the runner will be gone."""
    path = Path(error.log)
    with github.group(f"What {path.name} holds"):
        github.say(path.read_text("utf-8", "replace"))
    path.unlink()
    error.hint = error.hint.replace(str(path), "the group above.")


def _keep_failure(message: str) -> None:
    if sys.argv[1] in {"report", "show"}:
        return
    if sys.argv[1] in {"check", "install"}:  # no report will be made
        from modeldrop.action.summary import failure_markdown

        if os.environ.get("MODELDROP_SUMMARY", "").strip().lower() != "false":
            github.append_summary(failure_markdown(message))
        return
    run = _run_folder()
    result = run.load()
    result.failure = message
    run.save(result)


if __name__ == "__main__":
    sys.exit(main())
