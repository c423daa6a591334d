"""``python -m modeldrop.action STEP``: the steps of ``action.yml``; see the package."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.action import github
from modeldrop.action.event import WorkflowEvent, read_event
from modeldrop.action.input_reader import InputsError
from modeldrop.errors import ModeldropError, UsageError
from modeldrop.storage.write import interruption
from modeldrop.util.process import end_in_order, exit_code_of

if TYPE_CHECKING:
    from modeldrop.action.inputs import ActionInputs
    from modeldrop.action.result import RunFolder

_INPUTS = "MODELDROP_INPUTS"
_STATE = "MODELDROP_STATE"
_EXPORTER = "MODELDROP_EXPORTER_PYTHON"


def main() -> int:
    """Run a step; turn failures into annotations and their exit codes."""
    event = read_event(os.environ)
    end_in_order()
    try:
        _STEPS[sys.argv[1]](event)
    except ModeldropError as error:
        return _fail(error)
    except KeyboardInterrupt as interrupt:
        interruption.free_all()
        github.say("modeldrop: interrupted")
        sys.stdout.flush()
        os._exit(exit_code_of(interrupt))  # without waiting for threads that upload
    except Exception as error:  # noqa: BLE001  a defect must end as an annotation, too
        traceback.print_exc()
        defect = f"Unexpected {type(error).__name__}: {error}"
        hint = "This is a defect of modeldrop. Report it, with what stands above this line in the log."
        return _fail(ModeldropError(defect, hint))
    return 0


def _check(event: WorkflowEvent) -> None:

    temporary = _temporary()
    try:
        inputs = _read_inputs(event)
    except InputsError as error:
        github.step_output("matrix", error.matrix)
        raise
    temporary.joinpath("modeldrop").mkdir(parents=True, exist_ok=True)
    github.step_output("state", tempfile.mkdtemp(prefix="run-", dir=temporary / "modeldrop"))
    github.step_output("matrix", inputs.matrix)
    github.step_output("go", "false" if inputs.request is None else "true")


def _install(event: WorkflowEvent) -> None:
    from modeldrop.action.install import PipCache, install_planner

    inputs = _read_inputs(event)
    cache = PipCache(none=not event.may_cache)
    python = install_planner(inputs.parts, _temporary() / "modeldrop", cache)
    github.step_output("python", str(python))


def _plan(event: WorkflowEvent) -> None:
    from modeldrop.action.install import exporter_lock
    from modeldrop.action.steps import explain_sign_in, plan_and_publish

    inputs = _read_inputs(event)
    assert inputs.request is not None  # noqa: S101  check has ended the run else
    github.mask_secrets(os.environ)
    with github.group(f"Plan {inputs.request.model}"):
        try:
            needed = plan_and_publish(inputs, inputs.request, _run_folder())
        except ModeldropError as error:
            raise explain_sign_in(error, event, os.environ, inputs.parts) from error
    github.step_output("build", "true" if needed else "false")
    if not needed or os.environ.get(_EXPORTER):
        return
    github.step_output("exporter", "true")
    hosted = os.environ.get("RUNNER_ENVIRONMENT") == "github-hosted"
    if event.may_cache and hosted:  # a runner that stays has a cache of its own
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        machine = f"{os.environ.get('RUNNER_OS', '')}-{os.environ.get('RUNNER_ARCH', '')}"
        github.step_output("cache-key", f"modeldrop-exporter-{machine}-{version}-{exporter_lock()}")
        github.step_output("cache-folder", str(_pip_cache()))


def _exporter(event: WorkflowEvent) -> None:
    from modeldrop.action.install import PipCache, install_exporter

    inputs = _read_inputs(event)
    cached = bool(os.environ.get("MODELDROP_PIP_CACHE"))
    cache = PipCache(_pip_cache() if cached else None, none=not event.may_cache)
    with github.group("Install the exporter: PyTorch for CPUs, transformers, optimum"):
        python = install_exporter(_temporary() / "modeldrop", inputs.torch_index, cache)
    github.step_output("python", str(python))


def _build(event: WorkflowEvent) -> None:
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


def _report(_: WorkflowEvent) -> None:
    from modeldrop.action.result import outputs_of
    from modeldrop.action.summary import summary_markdown

    run = _run_folder()
    result = run.load()
    github.set_outputs(outputs_of(result, run))
    if os.environ.get("MODELDROP_SUMMARY", "true").lower() != "false":
        github.append_summary(summary_markdown(result, run.manifest()))


_STEPS: Mapping[str, Callable[[WorkflowEvent], None]] = {
    "check": _check,
    "install": _install,
    "plan": _plan,
    "exporter": _exporter,
    "build": _build,
    "report": _report,
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
    return read_action_inputs(text, event, _temporary())


def _temporary() -> Path:
    return Path(os.environ.get("RUNNER_TEMP") or tempfile.gettempdir()).absolute()


def _pip_cache() -> Path:
    return _temporary() / "modeldrop" / "pip"


def _fail(error: ModeldropError) -> int:
    """Say what failed as annotations, and keep it for the report."""
    if isinstance(error, InputsError):
        for problem in error.problems:
            github.annotate("error", f"modeldrop: input {problem.name}", str(problem))
    else:
        github.annotate("error", "modeldrop", f"{error.message}\n{error.hint}".strip())
    _keep_failure(str(error))
    return error.exit_code


def _keep_failure(message: str) -> None:
    if sys.argv[1] == "report":
        return
    if sys.argv[1] in {"check", "install"}:  # no report will be made
        from modeldrop.action.summary import failure_markdown

        if os.environ.get("MODELDROP_SUMMARY", "true").lower() != "false":
            github.append_summary(failure_markdown(message))
        return
    run = _run_folder()
    result = run.load()
    result.failure = message
    run.save(result)


if __name__ == "__main__":
    sys.exit(main())
