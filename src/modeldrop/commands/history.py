"""Show the moves of a channel, newest first."""

from __future__ import annotations

import argparse

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.commands.terminal import print_table
from modeldrop.errors import UsageError
from modeldrop.format.channel import MOVE
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.registry.versions import get_channel
from modeldrop.storage.write import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REFERENCE", help="REGISTRY/MODEL[@CHANNEL]")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    reference = reference_argument(arguments.reference)
    if reference.version is not None:
        raise UsageError("A version has no history.", f"Write {reference.model} or {reference.model}@CHANNEL.")
    name = reference.channel or DEFAULT_CHANNEL
    channel = get_channel(open_store(reference.registry), reference.model, name)
    if arguments.json:
        print_json([MOVE.write(move) for move in channel.moves()])
        return 0
    rows = [
        (str(move.generation), f"v{move.version}", move.action, move.at, move.by, move.why) for move in channel.moves()
    ]
    print_table(("generation", name, "by action", "at", "who", "why"), rows, right=(0,), cut=(4, 5))
    return 0
