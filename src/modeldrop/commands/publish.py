"""Build if this recipe was never built, upload an immutable version, and move the channel.

modeldrop publish sentence-transformers/all-MiniLM-L6-v2 s3://acme-models/embedder
modeldrop publish --all

An unchanged recipe builds nothing, writes nothing and needs no exporter installed. With --test, no channel is moved to
a new version before the command succeeds. It finds the folders of the new version and of what the channel names now
in MODELDROP_NEW and MODELDROP_CURRENT (empty if it names nothing); MODELDROP_NEW_VERSION, MODELDROP_CURRENT_VERSION,
MODELDROP_NEW_REFERENCE, MODELDROP_MODEL and MODELDROP_CHANNEL say which they are. If it fails, the version stays
published, and only promote takes a channel to it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.commands.publish_requests import wishes
from modeldrop.commands.recipe_options import add_recipe_options
from modeldrop.commands.summary import moved_json, moved_line, variant_table, variants_json
from modeldrop.config import read_duration
from modeldrop.errors import AcceptanceError, ModeldropError
from modeldrop.publishing.deliver import ADOPTED, BUILT, MIRRORED, UNCHANGED
from modeldrop.publishing.plan import plan
from modeldrop.publishing.publish import publish
from modeldrop.util.values import replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from modeldrop.publishing.deliver import Outcome
    from modeldrop.publishing.plan import Plan
    from modeldrop.publishing.request import Wish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_recipe_options(parser)
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="where to: REGISTRY/MODEL, such as ./models/embedder")
    add(
        "--also",
        action="append",
        default=[],
        metavar="REGISTRY",
        help="publish to this registry too, the same bytes (may be given several times)",
    )
    add("--channel", help="the channel to move (default: current, or what modeldrop.toml says)")
    add("--no-promote", action="store_true", help="publish the version, move no channel")
    add("--test", metavar="CMD", help="a shell command that must succeed before a channel is moved")
    add("--test-timeout", default="1h", metavar="TIME", help="limit for the test (default: 1h)")
    add(
        "--build-dir",
        type=Path,
        metavar="DIR",
        help="build here and leave it there; a whole build of this recipe in it is used, also with --force",
    )
    add("--force", action="store_true", help="build a new version even if this recipe was built before")
    add("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add("--quiet", action="store_true", help="no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    seconds = read_duration(arguments.test_timeout, "--test-timeout", unit="s")
    # All of them are planned before the first is built: what is wrong with the last is known now.
    plans = [plan(_completed(wish, arguments, seconds)) for wish in wishes(arguments)]
    documents: list[dict[str, Any]] = []
    if arguments.all or arguments.only:
        return _each(plans, arguments, documents)
    try:
        _do(plans[0], arguments, documents, arguments.build_dir)
    finally:
        if arguments.json and documents:
            print_json(documents[0])
    return 0


def _each(plans: Sequence[Plan], arguments: argparse.Namespace, documents: list[dict[str, Any]]) -> int:
    """One model after the other; one that fails keeps no other from being published. The first failure's exit code."""
    codes = []
    for one in plans:
        folder = arguments.build_dir and arguments.build_dir / one.wish.model
        try:
            _do(one, arguments, documents, folder)
        except ModeldropError as error:
            if arguments.debug:
                raise
            print(f"modeldrop: {one.wish.model}: {error}", file=sys.stderr)
            codes.append(error.exit_code)
            told = {} if not isinstance(error, AcceptanceError) else documents.pop()
            documents.append({"model": one.wish.model, "build_key": one.request.key} | told | {"error": error.message})
    if arguments.json:
        print_json(documents)
    return codes[0] if codes else 0


def _do(one: Plan, arguments: argparse.Namespace, documents: list[dict[str, Any]], folder: Path | None) -> None:
    """Publish one model, or say what that would do; add its document, or print what people read."""
    if arguments.dry_run:
        text, document = _dry_run(one)
    else:
        try:
            outcomes: Sequence[Outcome] = publish(one, folder, quiet=arguments.quiet)
        except AcceptanceError as error:
            documents.append(_plain(one, error.outcomes))
            if not arguments.json:
                print(_text(one, error.outcomes))
            raise
        text, document = _text(one, outcomes), _plain(one, outcomes)
    documents.append(document)
    if not arguments.json:
        print(text)


def _completed(wish: Wish, arguments: argparse.Namespace, test_seconds: float) -> Wish:
    """The wish with what the options say besides the model."""
    channel = arguments.channel if arguments.channel is not None else wish.channel
    return replace(
        wish,
        registries=(*wish.registries, *arguments.also),
        channel=None if arguments.no_promote else channel,
        beside=channel or wish.beside,
        force=arguments.force,
        offline=arguments.offline,
        test=wish.test if arguments.test is None else arguments.test,
        test_seconds=test_seconds,
    )


def _text(one: Plan, outcomes: Sequence[Outcome]) -> str:
    what = {
        BUILT: "published",
        ADOPTED: "built by another publisher meanwhile",
        MIRRORED: "mirrored, nothing was built",
        UNCHANGED: "unchanged, nothing was built",
    }
    model, several = one.wish.model, len(outcomes) > 1
    lines = [
        f"{f'{outcome.store.url}/' if several else ''}{model} v{outcome.version.number} "
        f"{outcome.version.digest[:19]}…: {what[outcome.done]}"
        for outcome in outcomes
    ]
    if outcomes[0].done == BUILT:
        lines.append(variant_table(outcomes[0].version.manifest))
    lines += [
        (f"{outcome.store.url}: " if several else "") + moved_line(outcome.moved)
        for outcome in outcomes
        if outcome.moved is not None
    ]
    if len({outcome.version.digest for outcome in outcomes}) > 1:
        lines.append("The registries hold different builds of this recipe. To make them the same: --force")
    return "\n".join(lines)


def _plain(one: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    first, *others = (_outcome(one.wish.model, outcome) for outcome in outcomes)
    return first | {"build_key": one.request.key, "also": others}


def _outcome(model: str, outcome: Outcome) -> dict[str, Any]:
    version = outcome.version
    return {
        "registry": outcome.store.url,
        "model": model,
        "version": f"v{version.number}",
        "reference": f"{outcome.store.url}/{model}@v{version.number}@{version.digest}",
        "digest": version.digest,
        "built": outcome.done == BUILT,
        "mirrored": outcome.done == MIRRORED,
        "channel": outcome.moved and moved_json(outcome.moved),
        "tested": outcome.tested,
        "variants": variants_json(version.manifest),
    }


def _dry_run(one: Plan) -> tuple[str, dict[str, Any]]:
    model = one.wish.model
    if one.would_build:
        from modeldrop.export import pipeline

        checked = pipeline.check(one.request)
        lines = [f"{model}: would build {', '.join(one.request.recipe.variants)} for {checked.task}"]
    else:
        lines = [
            f"{model}: would mirror to {store.url}"
            if version is None
            else f"{model}: would build nothing, {store.url} has this recipe as v{version.number}"
            for store, version in zip(one.stores, one.found, strict=True)
        ]
    first = one.found[0]
    return "\n".join(lines), {
        "model": model,
        "build_key": one.request.key,
        "would_build": one.would_build,
        "would_mirror": [store.url for store in one.would_mirror],
        "version": first and f"v{first.number}",
    }
