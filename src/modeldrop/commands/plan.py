"""Say whether publish would build anything. Imports no exporter and writes nothing.

modeldrop plan sentence-transformers/all-MiniLM-L6-v2 s3://acme-models/embedder
modeldrop plan --all
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from typing import Any

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.commands.recipe_options import add_recipe_options, publish_requests
from modeldrop.commands.summary import plan_json
from modeldrop.errors import MissingExtraError
from modeldrop.export.preflight.checks import check_request
from modeldrop.publishing.plan import Plan, outdated_tools, plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_options(parser)
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="destination: REGISTRY/MODEL, such as ./models/embedder"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    plans = [plan(replace(request, offline=arguments.offline)) for request in publish_requests(arguments)]
    for one in plans:
        if one.present is None:  # what a build would refuse is refused; but the exporter's libraries may be elsewhere
            with contextlib.suppress(MissingExtraError):
                check_request(one.build_request)
    if arguments.json:
        plain = [_plain(one) for one in plans]
        print_json(plain if arguments.all or arguments.only else plain[0])
    else:
        for one in plans:
            _print(one)
    return 0


def _print(one: Plan) -> None:
    request, model = one.build_request, one.request.model
    if one.present is None:
        print(f"{model}: would build {', '.join(request.recipe.variants)} from {request.source.identity}")
        return
    _, version = one.present
    for store in one.would_mirror:
        print(f"{model}: would mirror to {store.url}")
    if one.found[0] is not None:
        print(f"{model}: unchanged, v{version.number} has this recipe")
    for name, (built_with, installed) in outdated_tools(version.manifest).items():
        print(f"  built with {name} {built_with}; installed is {installed} (--force builds again)")


def _plain(one: Plan) -> dict[str, Any]:
    outdated = outdated_tools(one.present[1].manifest) if one.present else {}
    return plan_json(one) | {"source": one.build_request.source.identity, "outdated": outdated}
