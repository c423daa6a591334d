"""Point a channel at a version.

modeldrop promote ./models/embedder@v3
modeldrop promote ./models/embedder@staging --channel current

A registry that was rebuilt, or restored from an older copy, has lower generations than its readers have seen, who
then stay with what they have. They say which generation that is; one promote above it brings all of them forward:

modeldrop promote ./models/embedder@v3 --generation-above 25

With MODELDROP_SIGNING_KEY set the move is signed, and no channel is moved to a version that nobody whom you trust has
signed (docs/security.md).
"""

from __future__ import annotations

import argparse

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.commands.summary import channel_json, channel_line
from modeldrop.errors import UsageError
from modeldrop.format.names import DEFAULT_CHANNEL, check_channel
from modeldrop.registry.channels import promote
from modeldrop.registry.provenance import provenance
from modeldrop.registry.signing import vouch
from modeldrop.registry.versions import resolve_reference
from modeldrop.storage.write import open_store

_MAX_GENERATION = 1 << 52  # the format allows twice that: there is room to count on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REFERENCE", help="REGISTRY/MODEL@VERSION (or @CHANNEL)")
    parser.add_argument("--channel", default=DEFAULT_CHANNEL, help="the channel to move (default: current)")
    parser.add_argument("--why", default="", help="the reason, for the history")
    parser.add_argument(
        "--generation-above", type=int, default=0, metavar="N",
        help="count on from N: the generation that readers have seen of a registry that was restored since",
    )  # fmt: skip
    parser.add_argument(
        "--vouch", action="store_true",
        help="sign the version too, after you have looked at it: for one that was published unsigned",
    )  # fmt: skip
    parser.add_argument("--unsigned", action="store_true", help="have a channel that is not signed any more")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    channel, above = check_channel(arguments.channel), arguments.generation_above
    if not 0 <= above <= _MAX_GENERATION:
        raise UsageError(f"{above} is no generation.", "Write the number that the readers name.")
    if arguments.vouch and arguments.unsigned:
        raise UsageError("--vouch and --unsigned exclude each other.", "Write one of them.")
    reference = reference_argument(arguments.reference)
    if "@" not in arguments.reference.rpartition("/")[2]:
        raise UsageError("No version is named.", f"Name one: modeldrop promote {arguments.reference}@v3")
    store = open_store(reference.registry)
    version = resolve_reference(store, reference)
    if arguments.vouch:
        vouch(store, reference.model, version.number, version.digest)
    moved = promote(
        store,
        reference.model,
        version,
        channel,
        by=provenance().actor,
        why=arguments.why,
        generation_above=above,
        unsigned=arguments.unsigned,
    )
    if arguments.json:
        print_json(channel_json(moved))
    else:
        print(channel_line(moved))
    return 0
