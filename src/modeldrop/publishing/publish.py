"""Publish a model: build it if no registry has it, bring it into every registry, test it, move the channel.

``publish`` is the whole course. What protects it from a crash between any two of its steps, and from other publishers
at the same time, is written where it happens: ``registry/publish.py`` for versions, ``registry/channels.py`` for
channels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from modeldrop.errors import UserTestError
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.publishing.mirror import counter, mirror_missing, warn_of_deltas, work_folder
from modeldrop.publishing.plan import Plan
from modeldrop.publishing.request import PublishRequest
from modeldrop.publishing.user_test import UserTests
from modeldrop.registry.channel_writes import ChannelResult
from modeldrop.registry.channels import move_forward
from modeldrop.registry.deltas import WantedDeltas, add_deltas
from modeldrop.registry.policy import refuse_unmeetable
from modeldrop.registry.provenance import provenance
from modeldrop.registry.publish import ADOPTED, UNCHANGED, Build, Published
from modeldrop.registry.replicate import check_targets, commit_all, stage_all
from modeldrop.registry.signing import find_signer, refuse_unsigned
from modeldrop.registry.versions import read_channel
from modeldrop.site.upkeep import keep_site
from modeldrop.util.progress import Steps
from modeldrop.util.text import size_text


def publish(
    plan: Plan, *, build: Build | None = None, folder: Path | None = None, quiet: bool = False
) -> list[Published]:
    """Publish what a plan asks for; one result for each registry, the first one first.

    The test runs where a channel is about to be moved, once for each build, and where no channel is to move for each
    new version. If it fails, that is recorded in every registry that has the build.

    Args:
        plan: what is wanted, and which registry has it already (``plan.py``).
        build: the finished build, if an earlier step made it.
        folder: where to build, and where an earlier build may be; None for a temporary folder, which stays if only
            the publishing fails, as the error says.
        quiet: no progress on standard error.

    Raises:
        UserTestError: the version failed its test, now or before: it is published, and its channel was not moved.
        UsageError: the folder holds something else.
        IntegrityError: a file changed after it was built.
        RefusedError: the channel is signed, and there is no key here to sign its move with; or the registry's policy
            requires what the version does not have.
        TrustError: there is a key, and what a registry has of this recipe is not signed by those who are trusted here.
        MissingExtraError: a registry takes no files without its cloud's SDK, which is not installed.
        RegistryError, DiskError, ConflictError: a registry or this disk cannot be read or written.
        ModeldropError: see ``errors``: what cannot be built or does not pass its thresholds.
    """
    request = plan.request
    signer = find_signer()  # a key that cannot be used is refused before anything is built
    if signer is None and request.channel is not None and (plan.would_build or plan.would_mirror):
        for store in plan.stores:
            refuse_unsigned(
                store, request.model, request.channel, read_channel(store, request.model, request.channel)[0]
            )
    if plan.would_build and request.channel is not None and not request.propose:
        for store in plan.stores:
            refuse_unmeetable(store, request.model, request.channel, signs=signer is not None, tests=bool(request.test))
    with work_folder() as work:
        if not plan.would_build:
            published = mirror_missing(plan, work / "copy", quiet=quiet)  # mirror.py
        else:
            from modeldrop.export.pipeline import STEPS  # an unchanged recipe needs none of the exporter
            from modeldrop.publishing.build import build_or_keep, preflight

            if build is None:
                folder = folder or work / "build"
                checked = preflight(plan, folder)  # build.py, export/preflight
                build = build_or_keep(checked, folder, quiet=quiet)  # export/pipeline.py
            else:
                check_targets(plan.stores, build.size)
            with Steps(STEPS + 1, quiet=quiet, done=STEPS) as steps:
                steps.start("publish")
                progress = counter(steps, build.size * len(plan.stores))
                staged = stage_all(plan.stores, request.model, build, progress)  # registry/replicate.py
                wanted = WantedDeltas(request.deltas, request.channel or request.compare_with)
                shown = partial(steps.update, detail="of deltas")
                warn_of_deltas(add_deltas(staged, wanted, work / "deltas", shown))  # registry/deltas.py
                published = commit_all(staged, work / "copy", force=request.force)  # registry/publish.py
                steps.finish(_uploaded(published, build))
        tests = UserTests(request, published, work, plan.build_request)  # user_test.py
        channels = _move_channels(plan, published, tests)  # registry/channels.py
        published = [
            replace(one, channel=channel, tested=tests.tested(one.version))
            for one, channel in zip(published, channels, strict=True)
        ]
    for one in published:
        if one.how != UNCHANGED or one.tested is not None or (one.channel is not None and one.channel.moved):
            keep_site(one.store, request.model, [one.version.number])  # site/upkeep.py
    _raise_if_rejected(request, published)
    return published


def _move_channels(plan: Plan, published: list[Published], tests: UserTests) -> list[ChannelResult | None]:
    """Move the channel in every registry, after the test; without a channel to move, test what is new."""
    request = plan.request
    results: list[ChannelResult | None] = []
    for one in published:
        if request.channel is None:
            if any(other.how != UNCHANGED for other in published):
                compared = read_channel(one.store, request.model, request.compare_with)[0] if request.test else None
                tests.check(one, compared)
            results.append(None)
        else:
            moved = move_forward(
                one.store,
                request.model,
                one.version,
                request.channel,
                by=provenance().actor,
                asked=plan.asked,
                check=partial(tests.check, one),
                why=partial(tests.reason, one.version),
                propose=request.propose,
            )
            results.append(moved)
    return results


def _raise_if_rejected(request: PublishRequest, published: list[Published]) -> None:
    for one in published:
        number, channel = one.version.number, one.channel
        if channel is None:
            if one.tested is not False:
                continue
            why, stays = "its test failed", "no channel was moved"
        elif channel.rejection is None:
            continue
        else:
            why = channel.rejection.why
            if one.tested is None:
                why = f"{why}, at {channel.rejection.at}"
            if channel.after == number:
                stays = f"{channel.channel} names it nevertheless, because somebody else has moved it there"
            else:
                stays = f"{channel.channel} " + (f"stays at v{channel.after}" if channel.after else "was not made")
        to = "" if request.channel in {None, DEFAULT_CHANNEL} else f" --channel {request.channel}"
        raise UserTestError(
            f"{request.model} v{number} in {one.store.url} is published and was rejected: {why}; {stays}, and no later "
            "publish of the same recipe will move it there.",
            f"To use it nevertheless: modeldrop promote {one.store.url}/{request.model}@v{number}{to}\n"
            "  To build and test it again: publish with --force.",
            published=published,
        )


def _uploaded(published: list[Published], build: Build) -> str:
    numbers = ", ".join(f"v{one.version.number}" for one in published)
    adopted = ", built by another publisher meanwhile" if published[0].how == ADOPTED else ""
    return f"{numbers}, {len(build.manifest.files)} files, {size_text(build.size)}{adopted}"
