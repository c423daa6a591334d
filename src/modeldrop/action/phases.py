"""The work of the action's steps: plan, build, publish. What came of it goes into the run's result."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from modeldrop.action import github
from modeldrop.action.inputs import Inputs
from modeldrop.action.result import InRegistry, Result, State
from modeldrop.errors import AcceptanceError, FormatError, UsageError
from modeldrop.format.manifest import manifest_digest, parse_manifest
from modeldrop.publishing.deliver import BUILT, Outcome, deliver
from modeldrop.publishing.plan import Plan, plan
from modeldrop.publishing.request import Wish
from modeldrop.registry.versions import read_channel


def plan_and_publish(inputs: Inputs, wish: Wish, state: State) -> bool:
    """Look whether anything is to be built. If not, publish; return whether a build is needed now.

    Raises:
        UsageError: there is something to publish, and no build of it.
        AcceptanceError: the user's test failed.
        ModeldropError: see ``plan.plan`` and ``deliver``.
    """
    folder = inputs.build_folder
    has_build = inputs.phase == "publish" and (folder / "manifest.json").is_file()
    if has_build and inputs.own_folder:
        wish = _pinned(wish, folder)
    made = plan(wish)
    _note_plan(inputs, made, state)
    if not made.would_build:
        if inputs.publishes:
            _deliver(made, None, state)
        return False
    if inputs.phase == "publish":
        if not has_build:
            raise UsageError(
                f"There is no build of {wish.model} to publish: {made.request.source.identity} with this recipe is in "
                "no registry, and no step of this job with phase: build has built it.",
                "Run the action with phase: build and the same inputs before; from another job, bring its output "
                "build-folder as an artifact, name it in the input build-folder, and give its output source as model.",
            )
        _note_build(made, folder, state)
        if inputs.publishes:
            _deliver(made, folder, state)
        return False
    # What can be refused is refused before torch is installed.
    from modeldrop.export import pipeline
    from modeldrop.publishing.build import check_stores

    pipeline.check(made.request)
    if inputs.publishes:
        check_stores(made)
    return inputs.builds


def build_and_publish(inputs: Inputs, wish: Wish, state: State) -> None:
    """Build, and publish what was built, if that is wished in the same go.

    Raises:
        AcceptanceError: the user's test failed.
        ModeldropError: see ``publishing.build.build`` and ``deliver``.
    """
    from modeldrop.publishing.build import build, build_folder

    folder = inputs.build_folder
    if wish.force and inputs.own_folder:
        shutil.rmtree(folder, ignore_errors=True)
    made = plan(wish)
    if not made.would_build:  # another run was faster
        _note_plan(inputs, made, state)
        if inputs.publishes:
            _deliver(made, None, state)
        return
    if inputs.publishes:
        build(made, folder, quiet=False)
    else:
        # The credentials of this run may be for reading only: the registries are not tried out.
        build_folder(made.request, folder, force=wish.force, quiet=False)
    _note_build(made, folder, state)
    if inputs.publishes:
        _deliver(made, folder, state)


def _pinned(wish: Wish, folder: Path) -> Wish:
    """The wish for exactly the commit that an earlier step built, though its branch may have moved since."""
    try:
        identity = parse_manifest((folder / "manifest.json").read_bytes()).source.identity
    except (OSError, FormatError):
        return wish  # whoever uploads it says what is wrong with it
    return replace(wish, source=identity) if identity.startswith("hf:") else wish


def _note_plan(inputs: Inputs, made: Plan, state: State) -> None:
    result = Result(
        model=made.wish.model,
        channel=inputs.channel,
        reason=inputs.reason,
        source=made.request.source.identity,
        build_key=made.request.key,
        would_build=made.would_build,
        forced=made.wish.force,
    )
    for store, version in zip(made.stores, made.found, strict=True):
        channel, _ = read_channel(store, made.wish.model, inputs.channel)
        named = "" if channel is None else f"v{channel.version}"
        registry = InRegistry(store.url, before=named, after=named)
        if version is not None:
            registry.version, registry.digest = f"v{version.number}", version.digest
        result.registries.append(registry)
    state.save(result)
    what = f"{result.source}, recipe {result.build_key[:12]}"
    if made.present is None:
        force = ", or force is true" if made.wish.force else ""
        github.say(f"{what}: no registry has it{force}; {', '.join(made.request.recipe.variants)} must be built")
    else:
        store, present = made.present
        github.say(f"{what}: {store.url} has it as v{present.number}; nothing must be built")
        state.keep_manifest(present.manifest, present.digest)


def _note_build(made: Plan, folder: Path, state: State) -> None:
    from modeldrop.publishing.build import check_build_of

    manifest = check_build_of(made.request, folder)
    result = state.load()
    result.built, result.build_folder = True, str(folder)
    state.save(result)
    state.keep_manifest(manifest, manifest_digest((folder / "manifest.json").read_bytes()))


def _deliver(made: Plan, folder: Path | None, state: State) -> None:
    try:
        _note_outcomes(deliver(made, folder, quiet=False), state)
    except AcceptanceError as error:
        _note_outcomes(list(error.outcomes), state)
        raise


def _note_outcomes(outcomes: list[Outcome], state: State) -> None:
    result = state.load()
    before = {registry.url: registry.before for registry in result.registries}
    result.registries = [InRegistry.of(outcome, before.get(outcome.store.url, "")) for outcome in outcomes]
    result.built = any(outcome.done == BUILT for outcome in outcomes)
    state.save(result)
    if outcomes:
        state.keep_manifest(outcomes[0].version.manifest, outcomes[0].version.digest)
