"""Point a channel at what it named before the present version first became current."""

from __future__ import annotations

import argparse

from modeldrop.commands.arguments import add_json, model_argument, print_json
from modeldrop.commands.summary import channel_json, channel_line
from modeldrop.format.names import DEFAULT_CHANNEL, check_channel, parse_version
from modeldrop.registry.channels import rollback
from modeldrop.registry.provenance import provenance
from modeldrop.site.upkeep import keep_site
from modeldrop.storage.write import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="REGISTRY/MODEL")
    parser.add_argument("--channel", default=DEFAULT_CHANNEL, help="the channel to move (default: current)")
    parser.add_argument("--from", dest="expected", metavar="VERSION", help="only if the channel names this version")
    parser.add_argument("--why", default="", help="the reason, for the history")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    channel = check_channel(arguments.channel)
    expected = parse_version(arguments.expected) if arguments.expected else None
    reference = model_argument(arguments.model)
    store = open_store(reference.registry)
    moved = rollback(store, reference.model, channel, by=provenance().actor, why=arguments.why, expected=expected)
    keep_site(store, reference.model)
    if arguments.json:
        print_json(channel_json(moved))
    else:
        print(channel_line(moved))
    return 0
