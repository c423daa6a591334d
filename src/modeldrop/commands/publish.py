"""Publish a model: build it if this recipe was never built, upload an immutable version, move the channel.

modeldrop publish sentence-transformers/all-MiniLM-L6-v2 s3://acme-models/embedder
modeldrop publish --all

An unchanged recipe builds nothing, uploads nothing and needs no exporter. With --test, no channel is moved to a new
version before the command succeeds. The environment of the command has the folders of the new version and of the
version that the channel names (MODELDROP_NEW, MODELDROP_CURRENT; the latter is empty if there is none) and what they
are (MODELDROP_NEW_VERSION, MODELDROP_CURRENT_VERSION, MODELDROP_NEW_REFERENCE, MODELDROP_MODEL, MODELDROP_CHANNEL). If
the command fails, the version stays published, and only promote moves a channel to it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.commands.recipe_options import add_recipe_options, publish_requests
from modeldrop.commands.summary import channel_json, channel_line, plan_json, variant_table, variants_json
from modeldrop.config import read_duration
from modeldrop.errors import ModeldropError, UsageError, UserTestError
from modeldrop.format.names import OWN_NAME
from modeldrop.model_settings import DEFAULT_DELTAS, MAX_DELTAS, BetterThanCurrent
from modeldrop.publishing.plan import Plan, plan
from modeldrop.publishing.publish import publish
from modeldrop.publishing.request import PublishRequest
from modeldrop.registry.publish import ADOPTED, BUILT, MIRRORED, UNCHANGED, Published


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_options(parser)
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="destination: REGISTRY/MODEL, such as ./models/embedder")
    add(
        "--also",
        action="append",
        default=[],
        metavar="REGISTRY",
        help="publish the same files to this registry too (can be repeated)",
    )
    add("--channel", help="the channel to move (default: current, or what modeldrop.toml says)")
    add("--no-promote", action="store_true", help="publish the version and move no channel")
    add("--test", metavar="CMD", help="a shell command that must succeed before a channel is moved")
    add(
        "--better-than-current",
        metavar="FIGURE[=MARGIN]",
        help="move a channel only if this figure of the own metric is as good as that of the version it names, or "
        "better by the margin",
    )
    add("--test-timeout", default="1h", metavar="TIME", help="how long the test may take (default: 1h)")
    add(
        "--test-retries",
        type=int,
        choices=range(6),
        default=0,
        metavar="N",
        help="try it again, up to 5 times, if it fails",
    )
    add(
        "--build-dir",
        type=Path,
        metavar="DIR",
        help="build in this folder and keep it; a complete build of this recipe in it is used, even with --force",
    )
    add(
        "--deltas",
        type=int,
        choices=range(MAX_DELTAS + 1),
        metavar="N",
        help="store what differs from up to N of the versions that channels name beside large files, where that saves "
        f"half of them, for machines that have one (default: {DEFAULT_DELTAS}, 0 for none)",
    )
    add("--force", action="store_true", help="build a new version even if this recipe was built before")
    add("--dry-run", action="store_true", help="print what would be done, and do nothing")
    add("--quiet", action="store_true", help="show no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    seconds = read_duration(arguments.test_timeout, "--test-timeout", unit="s")
    # All are planned before the first is built: what is wrong with the last one is said now.
    plans = [plan(_with_options(request, arguments, seconds)) for request in publish_requests(arguments)]
    documents: list[dict[str, Any]] = []
    if arguments.all or arguments.only:
        return _publish_each(plans, arguments, documents)
    try:
        _publish(plans[0], arguments, documents, arguments.build_dir)
    finally:
        if arguments.json and documents:
            print_json(documents[0])
    return 0


def _publish_each(plans: Sequence[Plan], arguments: argparse.Namespace, documents: list[dict[str, Any]]) -> int:
    """Publish one model after the other, also after a failure; return the first failure's exit code."""
    codes = []
    for one in plans:
        folder = arguments.build_dir and arguments.build_dir / one.request.model
        try:
            _publish(one, arguments, documents, folder)
        except ModeldropError as error:
            if arguments.debug:
                raise
            print(f"modeldrop: {one.request.model}: {error}", file=sys.stderr)
            codes.append(error.exit_code)
            known = documents.pop() if isinstance(error, UserTestError) else {}
            failed = {"model": one.request.model, "build_key": one.build_request.key}
            documents.append(failed | known | {"error": error.message})
    if arguments.json:
        print_json(documents)
    return codes[0] if codes else 0


def _publish(one: Plan, arguments: argparse.Namespace, documents: list[dict[str, Any]], folder: Path | None) -> None:
    """Publish one model, or say what that would do: add its JSON document, or print the text for people."""
    failure: UserTestError | None = None
    if arguments.dry_run:
        text, document = _dry_run(one)
    else:
        try:
            published: Sequence[Published] = publish(one, folder=folder, quiet=arguments.quiet)
        except UserTestError as error:
            failure, published = error, error.published
        text, document = _text(one, published), _document(one, published)
    documents.append(document)
    if not arguments.json:
        print(text)
    if failure is not None:
        raise failure


def _with_options(request: PublishRequest, arguments: argparse.Namespace, test_seconds: float) -> PublishRequest:
    """The request with what the options say besides the model."""
    channel = arguments.channel if arguments.channel is not None else request.channel
    return replace(
        request,
        registries=(*request.registries, *arguments.also),
        channel=None if arguments.no_promote else channel,
        compare_with=channel or request.compare_with,
        force=arguments.force,
        offline=arguments.offline,
        test=request.test if arguments.test is None else arguments.test,
        test_seconds=test_seconds,
        test_retries=arguments.test_retries,
        deltas=request.deltas if arguments.deltas is None else arguments.deltas,
        better=request.better if arguments.better_than_current is None else _better(arguments.better_than_current),
    )


def _better(text: str) -> BetterThanCurrent:
    name, _, margin = text.partition("=")
    try:
        number = float(margin or 0)
    except ValueError:
        number = math.nan
    if not OWN_NAME.fullmatch(name) or not math.isfinite(number):
        raise UsageError(
            f"--better-than-current {text[:80]!r} is no figure with a margin.",
            "Write it as accuracy, or accuracy=0.01.",
        )
    return BetterThanCurrent(name, number)


def _text(one: Plan, published: Sequence[Published]) -> str:
    what = {
        BUILT: "published",
        ADOPTED: "built by another publisher meanwhile",
        MIRRORED: "mirrored, nothing was built",
        UNCHANGED: "unchanged, nothing was built",
    }
    model, several = one.request.model, len(published) > 1
    lines = [
        f"{f'{there.store.url}/' if several else ''}{model} v{there.version.number} "
        f"{there.version.digest[:19]}…: {what[there.how]}"
        for there in published
    ]
    if published[0].how == BUILT:
        lines.append(variant_table(published[0].version.manifest))
    lines += [
        (f"{there.store.url}: " if several else "") + channel_line(there.channel)
        for there in published
        if there.channel is not None
    ]
    if len({there.version.digest for there in published}) > 1:
        lines.append("The registries hold different builds of this recipe. To make them the same: --force")
    return "\n".join(lines)


def _document(one: Plan, published: Sequence[Published]) -> dict[str, Any]:
    first, *others = (_registry_document(one.request.model, there) for there in published)
    return first | {"build_key": one.build_request.key, "also": others}


def _registry_document(model: str, published: Published) -> dict[str, Any]:
    version = published.version
    return {
        "registry": published.store.url,
        "model": model,
        "version": f"v{version.number}",
        "reference": f"{published.store.url}/{model}@v{version.number}@{version.digest}",
        "digest": version.digest,
        "built": published.how == BUILT,
        "mirrored": published.how == MIRRORED,
        "promotion": published.promotion,
        "channel": published.channel and channel_json(published.channel),
        "tested": published.tested,
        "variants": variants_json(version.manifest),
    }


def _dry_run(one: Plan) -> tuple[str, dict[str, Any]]:
    model = one.request.model
    if one.would_build:
        from modeldrop.export import pipeline

        checked = pipeline.check_request(one.build_request)
        lines = [f"{model}: would build {', '.join(one.build_request.recipe.variants)} for {checked.task}"]
    else:
        lines = [
            f"{model}: would mirror to {store.url}"
            if version is None
            else f"{model}: would build nothing, {store.url} has this recipe as v{version.number}"
            for store, version in one.registries()
        ]
    return "\n".join(lines), plan_json(one)
