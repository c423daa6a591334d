"""Say whether publish would build anything. Imports no exporter and writes nothing."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, model_argument, print_json
from modeldrop.commands.recipe_options import add_recipe_options, request_of
from modeldrop.registry.publish import find_build
from modeldrop.registry.stores import open_store

if TYPE_CHECKING:
    import argparse

    from modeldrop.format.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_recipe_options(parser)
    parser.add_argument("model", metavar="MODEL", help="where to: REGISTRY/MODEL, such as ./models/embedder")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    reference = model_argument(arguments.model)
    store = open_store(reference.registry)
    request = request_of(arguments)
    version = find_build(store, reference.model, request.key)
    outdated = outdated_tools(version.manifest) if version else {}
    if arguments.json:
        print_json(
            {
                "model": reference.model,
                "source": request.source.identity,
                "build_key": request.key,
                "would_build": version is None,
                "version": version and f"v{version.number}",
                "outdated": outdated,
            }
        )
        return 0
    if version is None:
        print(f"{reference.model}: would build {', '.join(request.recipe.variants)} from {request.source.identity}")
    else:
        print(f"{reference.model}: unchanged, v{version.number} has this recipe")
    for name, (built_with, installed) in outdated.items():
        print(f"  built with {name} {built_with}; installed is {installed} (--force builds again)")
    return 0


def outdated_tools(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Tools of a version's toolchain that are installed here in another release: (then, now) by name."""
    outdated = {}
    for name, then in manifest.toolchain.items():
        try:
            now = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if now != then:
            outdated[name] = (then, now)
    return outdated
