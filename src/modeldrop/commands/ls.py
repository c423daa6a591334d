"""List the models of a registry, or the versions and channels of a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.commands.terminal import print_table
from modeldrop.errors import ModeldropError
from modeldrop.format.records import Seal
from modeldrop.registry.versions import (
    VersionListing,
    list_channels,
    list_folders,
    models_named,
    read_version,
    version_numbers,
)
from modeldrop.storage.write.store import Store
from modeldrop.util.text import size_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="REGISTRY[/MODEL]", nargs="?", default="", help="default: MODELDROP_REGISTRY")
    parser.add_argument("--all", action="store_true", help="show pruned versions of a model too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    store, models, single = models_named(arguments.what)
    if single:
        return _print_versions(store, models[0], all_of_them=arguments.all, as_json=arguments.json)
    return _print_models(store, models, as_json=arguments.json)


def _print_models(store: Store, models: list[str], *, as_json: bool) -> int:
    numbers_of = {model: version_numbers(store, model) for model in models}
    found = {model: (numbers, list_channels(store, model)) for model, numbers in numbers_of.items() if numbers}
    if as_json:
        print_json(
            [
                {
                    "model": model,
                    "versions": [f"v{number}" for number in numbers],
                    "channels": {name: f"v{channel.version}" for name, channel in channels.items()},
                }
                for model, (numbers, channels) in found.items()
            ]
        )
        return 0
    rows = [
        (
            model,
            str(len(numbers)),
            ", ".join(f"{name} → v{channel.version}" for name, channel in channels.items()),
        )
        for model, (numbers, channels) in found.items()
    ]
    if rows:
        print_table(("model", "versions", "channels"), rows, cut=(2,))
    else:
        print(f"{store.url} holds no models.")
    return 0


def _print_versions(store: Store, model: str, *, all_of_them: bool, as_json: bool) -> int:
    channels = list_channels(store, model)
    rows = []
    plain: list[dict[str, object]] = []
    for folder in reversed(list_folders(store, model)):
        if folder.emptied and not all_of_them:
            continue  # nearly all versions of a model that is pruned every day: not one request for each
        names = [name for name, channel in channels.items() if channel.version == folder.number]
        state, cells, more = _describe(store, model, folder)
        if state == "pruned" and not all_of_them:
            continue
        rows.append((f"v{folder.number}", ", ".join(names), *cells))
        plain.append({"version": f"v{folder.number}", "channels": names, "state": state} | more)
    if as_json:
        print_json(plain)
    else:
        print_table(("version", "channels", "digest", "built", "variants", "source"), rows, cut=(1, 4, 5))
    return 0


def _describe(store: Store, model: str, folder: VersionListing) -> tuple[str, Sequence[str], dict[str, object]]:
    """A version's state, its cells from the digest on, and what else JSON has of it."""
    try:
        version = read_version(store, model, folder.number) if folder.committed else None
    except ModeldropError as error:
        return "damaged", ("damaged", "", "", error.message), {"why": error.message}
    if version is None:
        return "unfinished", ("unfinished", "", "", ""), {}
    if isinstance(version, Seal):
        return "pruned", ("pruned", version.at, "", version.why), {"why": version.why, "pruned": version.at}
    manifest = version.manifest
    sizes = {variant.name: manifest.weights_of(variant) for variant in manifest.variants}
    marks = [name for name, there in (("rejected", folder.rejected), ("retired", folder.retired)) if there]
    cells = (
        version.digest[:19] + "".join(f" ({mark})" for mark in marks),
        manifest.provenance.created,
        ", ".join(f"{name} {size_text(size)}" for name, size in sizes.items()),
        manifest.source.repository or manifest.source.identity[:19],
    )
    return (
        "retired" if folder.retired else "published",
        cells,
        {
            "rejected": folder.rejected,
            "digest": version.digest,
            "created": manifest.provenance.created,
            "variants": sizes,
            "source": manifest.source.identity,
        },
    )
