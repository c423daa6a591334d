"""List the models of a registry, or the versions and channels of a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import default_registry
from modeldrop.errors import ModeldropError, NotFoundError, UsageError
from modeldrop.format.reference import parse_reference, parse_registry
from modeldrop.registry.stores import open_store
from modeldrop.registry.versions import (
    claimed_numbers,
    find_version,
    has_model,
    list_channels,
    list_models,
    missing_model,
    version_numbers,
)
from modeldrop.terminal import size_text, table

if TYPE_CHECKING:
    import argparse

    from modeldrop.registry.stores.interface import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("what", metavar="REGISTRY[/MODEL]", nargs="?", default="", help="default: MODELDROP_REGISTRY")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    registry = _as_registry(arguments.what) if arguments.what else default_registry()
    if registry is not None:
        store = open_store(registry)
        models = [model for model in list_models(store) if version_numbers(store, model)]
        if models or not arguments.what:
            return _print_models(store, models, as_json=arguments.json)
    reference = parse_reference(arguments.what, default_registry())
    store = open_store(reference.registry)
    if not has_model(store, reference.model):
        if registry is not None and not os.path.isdir(registry):  # noqa: PTH112
            raise NotFoundError(f"There is neither a registry nor a model {arguments.what!r}.", "Check the path.")
        raise missing_model(store, reference.model)
    return _print_versions(store, reference.model, as_json=arguments.json)


def _as_registry(text: str) -> str | None:
    try:
        return parse_registry(text)
    except UsageError:
        return None


def _print_models(store: Store, models: list[str], *, as_json: bool) -> int:
    found = {model: (version_numbers(store, model), list_channels(store, model)) for model in models}
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
    print(table(("model", "versions", "channels"), rows) if rows else f"{store.url} holds no models.")
    return 0


def _print_versions(store: Store, model: str, *, as_json: bool) -> int:
    channels = list_channels(store, model)
    rows = []
    plain: list[dict[str, object]] = []
    for number in reversed(claimed_numbers(store, model)):
        names = [name for name, channel in channels.items() if channel.version == number]
        try:
            version = find_version(store, model, number)
        except ModeldropError as error:
            rows.append((f"v{number}", ", ".join(names), "damaged", "", "", error.message))
            plain.append({"version": f"v{number}", "channels": names, "state": "damaged"})
            continue
        if version is None:
            rows.append((f"v{number}", ", ".join(names), "unfinished", "", "", ""))
            plain.append({"version": f"v{number}", "channels": names, "state": "unfinished"})
            continue
        manifest = version.manifest
        variants = ", ".join(f"{item.name} {size_text(manifest.weights_of(item))}" for item in manifest.variants)
        rows.append(
            (
                f"v{number}",
                ", ".join(names),
                version.digest[:19],
                manifest.provenance.created,
                variants,
                manifest.source.repository or manifest.source.identity[:19],
            )
        )
        plain.append(
            {
                "version": f"v{number}",
                "channels": names,
                "state": "published",
                "digest": version.digest,
                "created": manifest.provenance.created,
                "variants": {item.name: manifest.weights_of(item) for item in manifest.variants},
                "source": manifest.source.identity,
            }
        )
    if as_json:
        print_json(plain)
    else:
        print(table(("version", "channels", "digest", "built", "variants", "source"), rows))
    return 0
