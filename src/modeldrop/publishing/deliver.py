"""Delivering: bring a build, or a copy, into every registry; test it; move the channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import AcceptanceError, ModeldropError
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.format.records import Rejection
from modeldrop.publishing.mirror import copy, scratch_folder
from modeldrop.publishing.user_test import run_test
from modeldrop.registry.channels import Moved, create_if_missing, move_forward
from modeldrop.registry.distribute import publish
from modeldrop.registry.provenance import provenance
from modeldrop.registry.rejecting import reject, rejection_now
from modeldrop.registry.replicate import download_version
from modeldrop.registry.versions import Version, changed_manifest, find_rejection, get_version, read_channel
from modeldrop.storage.write.store import Store
from modeldrop.util.progress import Steps
from modeldrop.util.text import size_text

if TYPE_CHECKING:
    from modeldrop.format.channel import Channel
    from modeldrop.publishing.plan import Plan

BUILT, ADOPTED, MIRRORED, UNCHANGED = "built", "adopted", "mirrored", "unchanged"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one registry.

    Attributes:
        store: the registry.
        version: the version of the recipe there.
        done: how it got there: ``built`` by this call, ``adopted`` from another publisher who was first, ``mirrored``
            from another registry, or ``unchanged``.
        moved: what became of the channel; None if none was to move.
        tested: whether the wish's test succeeded; None if it did not run.
    """

    store: Store
    version: Version
    done: str
    moved: Moved | None
    tested: bool | None


def deliver(plan: Plan, folder: Path | None, *, quiet: bool) -> list[Outcome]:
    """Publish or mirror what a plan asks for, run its test, and move its channel; one outcome for each registry.

    The test runs where a channel is about to be moved, once for each build, and where no channel is to move for each
    new version. If it fails, that is written into every registry that has the build.

    Args:
        plan: what is wanted, and what is there.
        folder: what ``build`` left; None if nothing was to be built.
        quiet: no progress on standard error.

    Raises:
        UsageError: the folder does not hold the build of this plan.
        AcceptanceError: the version failed its test, now or before: it is published, and its channel was not moved.
        IntegrityError: a file changed after it was built.
        RegistryError, DiskError, ConflictError: a registry or this disk cannot be read or written.
    """
    wish = plan.wish
    with scratch_folder() as scratch:
        filled = _fill(plan, folder, scratch, quiet=quiet)
        unchanged = all(one.done == UNCHANGED for one in filled)
        acceptance = _Acceptance(plan, filled, scratch)
        outcomes = []
        for one in filled:
            moved = None
            if wish.channel is None:
                if not unchanged:
                    present = read_channel(one.store, wish.model, wish.beside)[0] if wish.test else None
                    acceptance.judge(one, present)
            else:
                move = create_if_missing if unchanged else move_forward
                moved = move(
                    one.store,
                    wish.model,
                    one.version,
                    wish.channel,
                    by=provenance().actor,
                    accept=partial(acceptance.judge, one),
                )
            outcomes.append((one, moved))
        results = [
            Outcome(one.store, one.version, one.done, moved, acceptance.tested(one.version)) for one, moved in outcomes
        ]
    _raise_if_rejected(plan, results)
    return results


@dataclass(frozen=True, slots=True)
class _Filled:
    """A version of the recipe in a registry, how it got there, and the folder that has its files, if one has."""

    store: Store
    version: Version
    done: str
    folder: Path | None = None


def _fill(plan: Plan, folder: Path | None, scratch: Path, *, quiet: bool) -> list[_Filled]:
    """A version of the recipe in every registry."""
    having = plan.present
    if having is None:
        if folder is None:
            raise ValueError("nothing was built, and no registry has it")
        return _upload(plan, folder, scratch, quiet=quiet)
    lagging = list(plan.would_mirror)
    copied = iter(copy(*having, plan.wish.model, lagging, scratch / "copy", quiet=quiet) if lagging else [])
    came_by = scratch / "copy" if (scratch / "copy" / "manifest.json").is_file() else None
    return [
        _Filled(store, next(copied).version, MIRRORED, came_by)
        if version is None
        else _Filled(store, version, UNCHANGED, came_by if version.digest == having[1].digest else None)
        for store, version in zip(plan.stores, plan.found, strict=True)
    ]


def _upload(plan: Plan, folder: Path, scratch: Path, *, quiet: bool) -> list[_Filled]:
    from modeldrop.export.pipeline import STEPS  # an unchanged recipe never needs it
    from modeldrop.publishing.build import check_build_of

    manifest = check_build_of(plan.request, folder)
    size = sum(file.size for file in manifest.files)
    done = 0
    with Steps(STEPS + 1, quiet=quiet, done=STEPS) as steps:

        def progress(count: int) -> None:
            nonlocal done
            done += count
            steps.update(done, size * len(plan.stores))

        steps.start("publish")
        wish = plan.wish
        published = publish(plan.stores, wish.model, folder, scratch / "copy", force=wish.force, progress=progress)
        numbers = ", ".join(f"v{item.version.number}" for item in published)
        adopted = ", built by another publisher meanwhile" if published[0].adopted else ""
        steps.finish(f"{numbers}, {len(manifest.files)} files, {size_text(size)}{adopted}")
    return [
        # The bytes of another publisher may differ from ours: they are tested as they are in the registry.
        _Filled(store, item.version, ADOPTED if item.adopted else BUILT, None if item.adopted else folder)
        for store, item in zip(plan.stores, published, strict=True)
    ]


class _Acceptance:
    """Judges versions, each build once, whichever registries have it."""

    def __init__(self, plan: Plan, filled: list[_Filled], scratch: Path) -> None:
        self._wish = plan.wish
        self._filled = filled
        self._scratch = scratch
        self._judged: dict[str, Rejection | None] = {}
        self._tested: dict[str, bool] = {}

    def tested(self, version: Version) -> bool | None:
        """Whether the test of a version succeeded; None if it did not run."""
        return self._tested.get(version.digest)

    def judge(self, one: _Filled, present: Channel | None) -> Rejection | None:
        """The mark that the version has, or now gets; None if it may be used. ``present`` is what it would replace."""
        digest = one.version.digest
        if digest not in self._judged:
            self._judged[digest] = self._rejected_elsewhere(one) or self._test(one, present)
        rejection = self._judged[digest]
        return None if rejection is None else self._write(one, rejection)

    def _rejected_elsewhere(self, one: _Filled) -> Rejection | None:
        for other in self._same_as(one):
            if other.store is not one.store:
                found = find_rejection(other.store, self._wish.model, other.version.number)
                if found is not None:
                    return found
        return None

    def _test(self, one: _Filled, present: Channel | None) -> Rejection | None:
        wish = self._wish
        if not wish.test:
            return None
        variables = {
            "MODELDROP_NEW": str(self._folder_of(one)),
            "MODELDROP_NEW_VERSION": f"v{one.version.number}",
            "MODELDROP_NEW_REFERENCE": _reference(wish.model, one.store, one.version),
            "MODELDROP_CURRENT": "" if present is None else str(self._current(one.store, present)),
            "MODELDROP_CURRENT_VERSION": "" if present is None else f"v{present.version}",
            "MODELDROP_MODEL": wish.model,
            "MODELDROP_CHANNEL": wish.channel or "",
        }
        why = run_test(wish.test, variables, wish.test_seconds)
        self._tested[one.version.digest] = not why
        if not why:
            return None
        try:
            rejections = [self._write(other, rejection_now(why)) for other in self._same_as(one)]
        except ModeldropError as error:
            raise type(error)(
                f"{wish.model} v{one.version.number} failed: {why}. No channel was moved to it, but the failure could "
                f"not be written down: {error.message}",
                error.hint,
            ) from error
        return rejections[0]

    def _write(self, one: _Filled, rejection: Rejection) -> Rejection:
        return reject(one.store, self._wish.model, one.version.number, rejection)

    def _same_as(self, one: _Filled) -> list[_Filled]:
        return [other for other in self._filled if other.version.digest == one.version.digest]

    def _folder_of(self, one: _Filled) -> Path:
        return one.folder or self._downloaded(one.store, one.version, "new")

    def _current(self, store: Store, present: Channel) -> Path:
        try:
            version = get_version(store, self._wish.model, present.version)
            if version.digest != present.present.digest:
                raise changed_manifest(self._wish.model, version, present.present.digest)
            return self._downloaded(store, version, "current")
        except ModeldropError as error:
            error.hint = (
                f"{error.hint} So the new version could not be compared with it, and no channel was moved. To move it "
                f"without a test: modeldrop promote."
            ).strip()
            raise

    def _downloaded(self, store: Store, version: Version, name: str) -> Path:
        # Another build's folder where registries hold different ones: each gets a place of its own.
        folder = self._scratch / name / version.digest.removeprefix("sha256:")[:12]
        if not folder.exists():
            download_version(store, self._wish.model, version, folder)
        return folder


def _raise_if_rejected(plan: Plan, outcomes: list[Outcome]) -> None:
    model, channel = plan.wish.model, plan.wish.channel
    for outcome in outcomes:
        number, moved = outcome.version.number, outcome.moved
        if moved is None:
            if outcome.tested is not False:
                continue
            why, stays = "its test failed", "no channel was moved"
        elif moved.rejection is None:
            continue
        else:
            why = moved.rejection.why
            if outcome.tested is None:
                why = f"{why}, at {moved.rejection.at}"
            if moved.after == number:
                stays = f"{moved.channel} names it all the same, because somebody else has moved it there"
            else:
                stays = f"{moved.channel} " + (f"stays at v{moved.after}" if moved.after else "was not made")
        to = "" if channel in {None, DEFAULT_CHANNEL} else f" --channel {channel}"
        raise AcceptanceError(
            f"{model} v{number} in {outcome.store.url} is published and was rejected: {why}; {stays}, and no later "
            "publish of the same recipe will move it there.",
            f"To use it all the same: modeldrop promote {outcome.store.url}/{model}@v{number}{to}\n"
            "  To build and test it anew: publish with --force.",
            outcomes=outcomes,
        )


def _reference(model: str, store: Store, version: Version) -> str:
    return f"{store.url}/{model}@v{version.number}@{version.digest}"
