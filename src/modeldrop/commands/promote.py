"""Point a channel at a version.

modeldrop promote ./models/embedder@v3
modeldrop promote ./models/embedder@staging --channel current

A registry that was rebuilt, or restored from an older copy, has lower generations than its readers have seen, who
then stay with what they have. They say which generation that is; one promote above it brings all of them forward:

modeldrop promote ./models/embedder@v3 --generation-above 25

After an approval, what a publish of this CI run has proposed moves as that publish would have moved it: not if a later
run has asked for something else, or somebody has moved the channel by hand since:

modeldrop promote ./models/embedder@v3 --asked-at 2026-11-29T20:15:00Z

With MODELDROP_SIGNING_KEY set the move is signed, and no channel is moved to a version that nobody whom you trust has
signed (docs/security.md). With --require-attestation none is moved to what a workflow of that repository has not
attested to, and what the registry's policy requires (modeldrop policy) the version must have.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from datetime import datetime

from modeldrop.commands.arguments import add_json, add_require_attestation, print_json, reference_argument
from modeldrop.commands.summary import channel_json, channel_line
from modeldrop.config import required_builder
from modeldrop.errors import UsageError
from modeldrop.format.names import DEFAULT_CHANNEL, check_channel
from modeldrop.registry.attestations import check_attestation
from modeldrop.registry.channels import move_forward, promote
from modeldrop.registry.promotion import Asked
from modeldrop.registry.provenance import asked_now, provenance
from modeldrop.registry.signing import resolve_followed, vouch
from modeldrop.site.upkeep import keep_site
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
    parser.add_argument(
        "--asked-at", metavar="TIME",
        help="move it as the publish of this CI run that asked at TIME (UTC, such as 2026-11-29T20:15:00Z)",
    )  # fmt: skip
    add_require_attestation(parser, "only to what")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    channel, above = check_channel(arguments.channel), arguments.generation_above
    if not 0 <= above <= _MAX_GENERATION:
        raise UsageError(f"{above} is no generation.", "Write the number that the readers name.")
    if arguments.vouch and arguments.unsigned:
        raise UsageError("--vouch and --unsigned exclude each other.", "Write one of them.")
    asked = None if arguments.asked_at is None else _asked(arguments)
    builder = required_builder(arguments.require_attestation)
    reference = reference_argument(arguments.reference)
    if "@" not in arguments.reference.rpartition("/")[2]:
        raise UsageError("No version is named.", f"Name one: modeldrop promote {arguments.reference}@v3")
    store = open_store(reference.registry)
    version = resolve_followed(store, reference)
    if builder is not None:
        check_attestation(store, reference.model, version.number, version.digest, builder)
    if arguments.vouch:
        vouch(store, reference.model, version.number, version.digest)
    by = provenance().actor
    if asked is None:
        moved = promote(
            store,
            reference.model,
            version,
            channel,
            by=by,
            why=arguments.why,
            generation_above=above,
            unsigned=arguments.unsigned,
        )
    else:
        moved = move_forward(store, reference.model, version, channel, by=by, asked=asked)
    keep_site(store, reference.model, [version.number])
    if arguments.json:
        print_json(channel_json(moved))
    else:
        print(channel_line(moved))
    return 0


def _asked(arguments: argparse.Namespace) -> Asked:
    if arguments.why or arguments.generation_above or arguments.vouch or arguments.unsigned:
        raise UsageError(
            "--asked-at goes with no --why, --generation-above, --vouch or --unsigned.",
            "Those are a person's decisions.",
        )
    at = arguments.asked_at
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", at):
            raise ValueError
        datetime.fromisoformat(at)
    except ValueError:
        raise UsageError(
            f"--asked-at {at!r} is not a time in UTC.", "Write one such as 2026-11-29T20:15:00Z."
        ) from None
    return replace(asked_now(), at=at)
