"""Build if this recipe was never built, upload an immutable version, and move the channel.

An unchanged recipe builds nothing, writes nothing and needs no exporter installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeldrop.commands.arguments import add_json, model_argument, print_json
from modeldrop.commands.copying import copy, scratch_folder
from modeldrop.commands.recipe_options import add_recipe_options, request_of
from modeldrop.commands.summary import moved_json, moved_line, variant_table, variants_json
from modeldrop.errors import UsageError
from modeldrop.format.names import DEFAULT_CHANNEL, check_channel
from modeldrop.progress import Steps
from modeldrop.registry.channels import Moved, create_if_missing, move_forward
from modeldrop.registry.conditions import require_conditions
from modeldrop.registry.distribute import publish
from modeldrop.registry.provenance import provenance
from modeldrop.registry.publish import find_build
from modeldrop.registry.stores import open_store
from modeldrop.terminal import size_text

if TYPE_CHECKING:
    import argparse

    from modeldrop.build.request import BuildRequest
    from modeldrop.registry.publish import Published
    from modeldrop.registry.stores.interface import Store
    from modeldrop.registry.versions import Version

_REGISTRY_FACTOR = 1.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_recipe_options(parser)
    parser.add_argument("model", metavar="MODEL", help="where to: REGISTRY/MODEL, such as ./models/embedder")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="REGISTRY",
        help="publish to this registry too, the same bytes (may be given several times)",
    )
    parser.add_argument("--channel", default=DEFAULT_CHANNEL, help="the channel to move (default: current)")
    parser.add_argument("--no-promote", action="store_true", help="publish the version, move no channel")
    parser.add_argument("--force", action="store_true", help="build even if this recipe was built before")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json(parser)


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of one registry."""

    store: Store
    version: Version
    done: str  # built, adopted, mirrored or unchanged
    moved: Moved | None


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    channel = None if arguments.no_promote else check_channel(arguments.channel)
    reference = model_argument(arguments.model)
    model = reference.model
    stores = _open_all([reference.registry, *arguments.also])
    request = request_of(arguments)
    found = [None if arguments.force else find_build(store, model, request.key) for store in stores]
    if arguments.dry_run:
        return _dry_run(arguments, request, model, list(zip(stores, found, strict=True)))
    versions, done = _fill(arguments, request, stores, model, found)
    move = create_if_missing if all(what == "unchanged" for what in done) else move_forward
    by = provenance().actor
    results = [
        _Result(store, version, what, None if channel is None else move(store, model, version, channel, by=by))
        for store, version, what in zip(stores, versions, done, strict=True)
    ]
    if arguments.json:
        first, *others = (_plain(result, model) for result in results)
        print_json(first | {"build_key": request.key, "also": others})
        return 0
    _print(results, model)
    return 0


def _open_all(registries: list[str]) -> list[Store]:
    stores = [open_store(registry) for registry in registries]
    for index, store in enumerate(stores):
        if any(store.url == other.url for other in stores[:index]):
            raise UsageError(f"{store.url} is named twice.", "Name every registry once.")
    return stores


def _fill(
    arguments: argparse.Namespace,
    request: BuildRequest,
    stores: list[Store],
    model: str,
    found: list[Version | None],
) -> tuple[list[Version], list[str]]:
    """A version of the recipe in every registry, and how it got there."""
    having = next(((store, version) for store, version in zip(stores, found, strict=True) if version), None)
    if having is None:
        published = _build_and_publish(arguments, request, stores, model)
        return [item.version for item in published], ["adopted" if item.adopted else "built" for item in published]
    lagging = [store for store, version in zip(stores, found, strict=True) if version is None]
    copied = iter(copy(*having, model, lagging, quiet=arguments.quiet) if lagging else [])
    versions = [version or next(copied).version for version in found]
    return versions, ["unchanged" if version else "mirrored" for version in found]


def _print(results: list[_Result], model: str) -> None:
    what = {
        "built": "published",
        "adopted": "built by another publisher meanwhile",
        "mirrored": "mirrored, nothing was built",
        "unchanged": "unchanged, nothing was built",
    }
    for result in results:
        where = f"{result.store.url}/" if len(results) > 1 else ""
        print(f"{where}{model} v{result.version.number} {result.version.digest[:19]}…: {what[result.done]}")
    if results[0].done == "built":
        print(variant_table(results[0].version.manifest))
    for result in results:
        if result.moved is not None:
            print((f"{result.store.url}: " if len(results) > 1 else "") + moved_line(result.moved))
    if len({result.version.digest for result in results}) > 1:
        print("The registries hold different builds of this recipe. To make them the same: --force")


def _plain(result: _Result, model: str) -> dict[str, Any]:
    version = result.version
    return {
        "registry": result.store.url,
        "model": model,
        "version": f"v{version.number}",
        "reference": f"{result.store.url}/{model}@v{version.number}@{version.digest}",
        "digest": version.digest,
        "built": result.done == "built",
        "mirrored": result.done == "mirrored",
        "channel": result.moved and moved_json(result.moved),
        "variants": variants_json(version.manifest),
    }


def _build_and_publish(
    arguments: argparse.Namespace, request: BuildRequest, stores: list[Store], model: str
) -> list[Published]:
    from modeldrop.build import pipeline  # an unchanged recipe never needs it

    checked = pipeline.check(request)
    for store in stores:
        store.check_writable(int(request.source.weight_bytes() * _REGISTRY_FACTOR))
        require_conditions(store)
    with Steps(pipeline.STEPS + 1, quiet=arguments.quiet) as steps, scratch_folder() as scratch:
        folder = scratch / "build"
        manifest = pipeline.build(checked, folder, provenance(), steps)
        size = sum(file.size for file in manifest.files)
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            steps.update(done, size * len(stores))

        steps.start("publish")
        published = publish(stores, model, folder, scratch / "copy", force=arguments.force, progress=progress)
        numbers = ", ".join(f"v{item.version.number}" for item in published)
        adopted = ", built by another publisher meanwhile" if published[0].adopted else ""
        steps.finish(f"{numbers}, {len(manifest.files)} files, {size_text(size)}{adopted}")
    return published


def _dry_run(
    arguments: argparse.Namespace, request: BuildRequest, model: str, found: list[tuple[Store, Version | None]]
) -> int:
    if all(version is None for _, version in found):
        from modeldrop.build import pipeline

        checked = pipeline.check(request)
        texts = [f"{model}: would build {', '.join(request.recipe.variants)} for {checked.task}"]
    else:
        texts = [
            f"{model}: would mirror to {store.url}"
            if version is None
            else f"{model}: would build nothing, {store.url} has this recipe as v{version.number}"
            for store, version in found
        ]
    if arguments.json:
        first = found[0][1]
        print_json(
            {
                "model": model,
                "build_key": request.key,
                "would_build": all(version is None for _, version in found),
                "would_mirror": [store.url for store, version in found if version is None]
                if any(version for _, version in found)
                else [],
                "version": first and f"v{first.number}",
            }
        )
    else:
        print("\n".join(texts))
    return 0
