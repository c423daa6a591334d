"""Remove a channel of a model, or of all models of a registry that have it: what a pull request has left.

modeldrop channel rm s3://acme-models/embedder --channel pr-17
modeldrop channel rm s3://acme-models --channel pr-17

No version goes with it: prune retires those that no channel names any more. `current` is never removed. Containers that
follow the channel keep what they have. A registry without such a channel is as it should be, and no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.errors import NotFoundError
from modeldrop.format.names import check_channel
from modeldrop.registry.channels import remove
from modeldrop.registry.versions import models_named
from modeldrop.site.upkeep import keep_site

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("rm",), help="what to do")
    parser.add_argument("place", metavar="REGISTRY[/MODEL]", help="all models of a registry, or one")
    parser.add_argument("--channel", metavar="C", required=True, help="the channel")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    name = check_channel(arguments.channel)
    store, models, single = models_named(arguments.place)
    removed = {}
    for model in models:
        try:
            removed[model] = remove(store, model, name).version
            keep_site(store, model)
        except NotFoundError:
            if single:
                raise
    if arguments.json:
        print_json([{"model": model, "channel": name, "named": version} for model, version in removed.items()])
    else:
        print(
            "\n".join(f"{model}@{name}: removed, it named v{version}" for model, version in removed.items())
            or "nothing"
        )
    return 0
