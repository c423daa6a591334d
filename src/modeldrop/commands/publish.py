"""Build if this recipe was never built, upload an immutable version, and move the channel.

An unchanged recipe builds nothing, writes nothing and needs no exporter installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, model_argument, print_json
from modeldrop.commands.recipe_options import add_recipe_options, request_of
from modeldrop.commands.summary import moved_json, moved_line, variant_table, variants_json
from modeldrop.errors import DiskError
from modeldrop.format.names import DEFAULT_CHANNEL, check_channel
from modeldrop.progress import Steps
from modeldrop.registry.channels import Moved, create_if_missing, move_forward
from modeldrop.registry.provenance import provenance
from modeldrop.registry.publish import find_build, publish
from modeldrop.registry.stores import open_store
from modeldrop.terminal import size_text

if TYPE_CHECKING:
    import argparse

    from modeldrop.build.request import BuildRequest
    from modeldrop.format.reference import Reference
    from modeldrop.registry.stores.interface import Store
    from modeldrop.registry.versions import Version

_REGISTRY_FACTOR = 1.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_recipe_options(parser)
    parser.add_argument("model", metavar="MODEL", help="where to: REGISTRY/MODEL, such as ./models/embedder")
    parser.add_argument("--channel", default=DEFAULT_CHANNEL, help="the channel to move (default: current)")
    parser.add_argument("--no-promote", action="store_true", help="publish the version, move no channel")
    parser.add_argument("--force", action="store_true", help="build even if this recipe was built before")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    channel = None if arguments.no_promote else check_channel(arguments.channel)
    reference = model_argument(arguments.model)
    store = open_store(reference.registry)
    request = request_of(arguments)
    version = None if arguments.force else find_build(store, reference.model, request.key)
    built = version is None
    if arguments.dry_run:
        return _dry_run(arguments, request, reference, version)
    by = provenance().actor
    moved: Moved | None = None
    if version is None:
        version, built = _build_and_publish(arguments, request, store, reference)
        if channel is not None:
            moved = move_forward(store, reference.model, version, channel, by=by)
    elif channel is not None:
        moved = create_if_missing(store, reference.model, version, channel, by=by)
    if arguments.json:
        print_json(
            {
                "model": reference.model,
                "version": f"v{version.number}",
                "reference": f"{store.url}/{reference.model}@v{version.number}@{version.digest}",
                "digest": version.digest,
                "build_key": request.key,
                "built": built,
                "channel": moved and moved_json(moved),
                "variants": variants_json(version.manifest),
            }
        )
        return 0
    what = "published" if built else "unchanged, nothing was built"
    print(f"{reference.model} v{version.number} {version.digest[:19]}…: {what}")
    if built:
        print(variant_table(version.manifest))
    if moved is not None:
        print(moved_line(moved))
    return 0


def _build_and_publish(
    arguments: argparse.Namespace, request: BuildRequest, store: Store, reference: Reference
) -> tuple[Version, bool]:
    from modeldrop.build import pipeline  # an unchanged recipe never needs it

    checked = pipeline.check(request)
    store.check_writable(int(request.source.weight_bytes() * _REGISTRY_FACTOR))
    with Steps(pipeline.STEPS + 1, quiet=arguments.quiet) as steps, _scratch() as scratch:
        folder = Path(scratch) / "build"
        manifest = pipeline.build(checked, folder, provenance(), steps)
        total = sum(file.size for file in manifest.files)
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            steps.update(done, total)

        steps.start("publish")
        published = publish(store, reference.model, folder, force=arguments.force, progress=progress)
        adopted = ", built by another publisher meanwhile" if published.adopted else ""
        steps.finish(f"v{published.version.number}, {len(manifest.files)} files, {size_text(total)}{adopted}")
    return published.version, not published.adopted


def _scratch() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="modeldrop-")
    except OSError as error:
        raise DiskError(
            f"There is no folder to build in: {error.strerror or error}.", "Set TMPDIR to a folder with room."
        ) from error


def _dry_run(
    arguments: argparse.Namespace, request: BuildRequest, reference: Reference, version: Version | None
) -> int:
    if version is None:
        from modeldrop.build import pipeline

        checked = pipeline.check(request)
        text = f"{reference.model}: would build {', '.join(request.recipe.variants)} for {checked.task}"
    else:
        text = f"{reference.model}: would build nothing, v{version.number} has this recipe"
    if arguments.json:
        print_json(
            {
                "model": reference.model,
                "build_key": request.key,
                "would_build": version is None,
                "version": version and f"v{version.number}",
            }
        )
    else:
        print(text)
    return 0
