"""Build into a folder, without a registry. If the folder holds the build of this recipe already, nothing is built."""

from __future__ import annotations

import argparse
from pathlib import Path

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.commands.recipe_options import add_recipe_options, from_settings, recipe_from_options
from modeldrop.commands.summary import variant_table, variants_json
from modeldrop.config import load_config_file
from modeldrop.errors import UsageError
from modeldrop.export.request import BuildRequest
from modeldrop.model_settings import chosen_models
from modeldrop.publishing.build import build_folder
from modeldrop.publishing.plan import build_request_of
from modeldrop.publishing.request import recipe_of_model
from modeldrop.util.files import expand_user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_options(parser, several=False)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to build into")
    parser.add_argument("--force", action="store_true", help="build even if the folder holds a build of this recipe")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    output: Path = expand_user(arguments.output).absolute()
    request = _request(arguments)
    build, built = build_folder(request, output, force=arguments.force, quiet=arguments.quiet)
    if arguments.json:
        print_json(
            {
                "path": str(output),
                "build_key": request.key,
                "built": built,
                "variants": variants_json(build.manifest),
            }
        )
        return 0
    print(f"{output}: {'built' if built else 'unchanged, nothing was built'}")
    if built:
        print(variant_table(build.manifest))
    return 0


def _request(arguments: argparse.Namespace) -> BuildRequest:
    if not from_settings(arguments):
        return build_request_of(arguments.source, recipe_from_options(arguments), offline=arguments.offline)
    if len(arguments.only) > 1:
        raise UsageError("A folder holds the build of one model.", "Give --only once.")
    (model,) = chosen_models(load_config_file(), arguments.only)
    return build_request_of(model.source, recipe_of_model(model), offline=arguments.offline)
