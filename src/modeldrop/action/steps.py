"""The steps of the action that plan, build and publish. What came of them goes into the run's result."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modeldrop.action import github
from modeldrop.action.comparing import compare_and_test
from modeldrop.action.event import WorkflowEvent
from modeldrop.action.inputs import ActionInputs
from modeldrop.action.kept_builds import bring_kept_build
from modeldrop.action.result import RegistryResult, RunFolder, RunResult
from modeldrop.errors import FormatError, ModeldropError, RegistryError, UsageError, UserTestError
from modeldrop.publishing.plan import Plan, plan
from modeldrop.publishing.publish import publish
from modeldrop.publishing.request import PublishRequest
from modeldrop.registry.promotion import Promotion
from modeldrop.registry.publish import BUILT, Build, Published, read_build
from modeldrop.registry.versions import read_channel
from modeldrop.util.github_api import GitHubApi, GitHubError

_LOGINS = {
    "s3": "aws-actions/configure-aws-credentials",
    "gcs": "google-github-actions/auth",
    "azure": "azure/login",
}
_NO_CREDENTIALS = "no credentials"


def plan_and_publish(
    inputs: ActionInputs, request: PublishRequest, run: RunFolder, api: GitHubApi | None = None
) -> str:
    """Find out whether anything is to be built. If not, publish; return the exporter that a build needs now, or "".

    Args:
        inputs: those of the run.
        request: what they ask for.
        run: gets the result.
        api: GitHub's, to look for builds that earlier runs have kept.

    Raises:
        UsageError: there is something to publish, and no build of it.
        UserTestError: the user's test failed.
        ModeldropError: see ``publishing.plan`` and ``publishing.publish``.
    """
    folder = inputs.build_folder
    has_build = inputs.phase == "publish" and (folder / "manifest.json").is_file()
    if has_build and inputs.own_folder:
        request = _pinned(request, folder)
    planned = plan(request)
    _note_plan(inputs, planned, run)
    if not planned.would_build:
        _use_found(inputs, planned, run)
        return ""
    from modeldrop.export import pipeline
    from modeldrop.publishing.build import check_stores, find_whole_build, require_whole_build

    if api is not None and inputs.reuses and not folder.exists() and _bring(api, planned, folder):
        if kept := find_whole_build(planned.build_request, folder):
            _use_build(inputs, planned, kept, run, measure=inputs.compares)
            return ""
        shutil.rmtree(folder)
    if inputs.phase == "publish":
        if not has_build:
            raise UsageError(
                f"There is no build of {request.model} to publish: {planned.build_request.source.identity} with this "
                "recipe is in no registry, and no step of this job with phase: build has built it.",
                "Run the action with phase: build and the same inputs before; from another job, bring its output "
                "build-folder as an artifact, name it in the input build-folder, and give its output source as model.",
            )
        build = require_whole_build(planned.build_request, folder)
        _use_build(inputs, planned, build, run, measure=inputs.compares)
        return ""
    # What can be refused is refused before torch is installed.
    pipeline.check_request(planned.build_request)
    if inputs.publishes:
        check_stores(planned)
    return planned.build_request.exporter if inputs.builds else ""


def build_and_publish(inputs: ActionInputs, request: PublishRequest, run: RunFolder) -> None:
    """Build, and publish what was built, if the inputs ask for both.

    Raises:
        UserTestError: the user's test failed.
        ModeldropError: see ``publishing.build`` and ``publishing.publish``.
    """
    from modeldrop.publishing.build import build_folder, build_or_keep, preflight

    folder = inputs.build_folder
    if request.force and inputs.own_folder:
        shutil.rmtree(folder, ignore_errors=True)
    planned = plan(request)
    # Wanted since the run began, not since the exporter was installed.
    planned = replace(planned, asked=replace(planned.asked, at=run.load().asked or planned.asked.at))
    if not planned.would_build:  # another run was faster
        _note_plan(inputs, planned, run)
        _use_found(inputs, planned, run)
        return
    if inputs.publishes:
        build = build_or_keep(preflight(planned, folder), folder, quiet=False)
    else:
        # The credentials of this run may be for reading only: the registries are not tried out.
        build, _ = build_folder(planned.build_request, folder, force=request.force, quiet=False)
    _use_build(inputs, planned, build, run, measure=True)


def explain_sign_in(
    error: ModeldropError, event: WorkflowEvent, environment: Mapping[str, str], parts: Sequence[str]
) -> ModeldropError:
    """The same error, naming the permission or step that is missing, if that is why a registry refuses."""
    if not isinstance(error, RegistryError) or not any(part in _LOGINS for part in parts):
        return error
    if event.without_secrets:
        who = "from a fork" if event.fork else "of Dependabot"
        error.hint = (
            f"This is a pull request {who}: GitHub gives it neither secrets nor `id-token: write`, so it cannot sign "
            "in. Leave this step out there (if: github.event.pull_request.head.repo.fork != true), or let it build "
            "against a folder (registry: ./models)."
        )
    elif _NO_CREDENTIALS in error.message:
        logins = " and ".join(_LOGINS[part] for part in parts if part in _LOGINS)
        if "ACTIONS_ID_TOKEN_REQUEST_URL" in environment:
            error.hint = f"The job may sign in (`id-token: write`), and no step before this one did: add {logins}."
        else:
            error.hint = f"Give the job `permissions: id-token: write`, and let {logins} run before this step."
    return error


def _bring(api: GitHubApi, planned: Plan, folder: Path) -> bool:
    """Bring the build that an earlier run has kept, if one has."""
    try:
        run = bring_kept_build(api, planned.request.model, planned.build_request.key, folder)
    except GitHubError as error:
        hint = "To look for builds that pull requests have kept, the job needs `permissions: actions: read`."
        github.annotate(
            "warning", "modeldrop: no kept build", f"{error.message}\n{hint if error.status else ''}".strip()
        )
        return False
    if run:
        github.say(f"Built before, by {run}: its build is taken, nothing is built")
    return bool(run)


def _use_found(inputs: ActionInputs, planned: Plan, run: RunFolder) -> None:
    """Go on with what a registry has."""
    if inputs.compares:
        compare_and_test(inputs, planned, None, run)
    if inputs.publishes:
        _publish(planned, None, run)


def _use_build(inputs: ActionInputs, planned: Plan, build: Build, run: RunFolder, *, measure: bool) -> None:
    """Go on with a build; ``measure`` it unless an earlier step or run has."""
    _note_build(build, run)
    compare_and_test(inputs, planned, build, run, measure=measure)
    if inputs.publishes:
        _publish(planned, build, run)


def _pinned(request: PublishRequest, folder: Path) -> PublishRequest:
    """The request for exactly the commit that an earlier step built, though its branch may have moved since."""
    try:
        identity = read_build(folder).manifest.source.identity
    except (OSError, FormatError):
        return request  # the publishing says what is wrong with the folder
    return replace(request, source=identity) if identity.startswith("hf:") else request


def _note_plan(inputs: ActionInputs, planned: Plan, run: RunFolder) -> None:
    request, wanted = planned.request, planned.build_request
    result = RunResult(
        model=request.model,
        channel=inputs.channel,
        reason=inputs.reason,
        source=wanted.source.identity,
        given=request.source,
        build_key=wanted.key,
        would_build=planned.would_build,
        forced=request.force,
        asked=planned.asked.at,
    )
    for store, version in planned.registries():
        channel, _ = read_channel(store, request.model, inputs.channel)
        named = "" if channel is None else f"v{channel.version}"
        registry = RegistryResult(store.url, before=named, after=named)
        if version is not None:
            registry.version, registry.digest = f"v{version.number}", version.digest
        result.registries.append(registry)
    run.save(result)
    what = f"{result.source}, recipe {result.build_key[:12]}"
    if planned.present is None:
        force = ", or force is true" if request.force else ""
        github.say(f"{what}: no registry has it{force}; {', '.join(wanted.recipe.variants)} must be built")
    else:
        store, present = planned.present
        github.say(f"{what}: {store.url} has it as v{present.number}; nothing must be built")
        run.keep_manifest(present.manifest, present.digest)


def _note_build(build: Build, run: RunFolder) -> None:
    result = run.load()
    result.built, result.build_folder = True, str(build.folder)
    run.save(result)
    run.keep_manifest(build.manifest, build.digest)


def _publish(planned: Plan, build: Build | None, run: RunFolder) -> None:
    try:
        _note_published(publish(planned, build=build), run)
    except UserTestError as error:
        _note_published(list(error.published), run)
        error.hint = error.hint.replace("publish with --force", "set the input force: true")
        raise


def _note_published(published: list[Published], run: RunFolder) -> None:
    result = run.load()
    for one in published:
        if one.channel is not None and one.promotion is Promotion.HELD:
            at = f"stays at v{one.channel.after}" if one.channel.after else "was not made"
            where = f"{one.store.url}/{result.model}@{one.channel.channel}"
            github.annotate("warning", "modeldrop: not promoted", f"{where} {at}: {one.channel.reason}")
    before = {registry.url: registry.before for registry in result.registries}
    result.registries = [RegistryResult.of(one, before.get(one.store.url, "")) for one in published]
    result.built = any(one.how == BUILT for one in published)
    run.save(result)
    if published:
        run.keep_manifest(published[0].version.manifest, published[0].version.digest)
