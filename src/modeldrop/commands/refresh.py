"""Renew the signatures of channels, which stay at what they name: for channels whose signatures expire.

modeldrop refresh s3://acme-models --expires-in 7d
modeldrop refresh s3://acme-models/embedder --channel current

A signature expires as the one before did, unless --expires-in (or MODELDROP_EXPIRES_IN, at every move) says otherwise;
0 makes one that does not expire. Whoever fetches with a list of trusted keys refuses a channel whose signature has
expired: so nobody can keep a registry from moving on unnoticed. Run it from a schedule, several times within that
time. Nothing is renewed that is not signed by your own key, or by one that you trust.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.commands.summary import channel_json
from modeldrop.config import read_duration
from modeldrop.errors import ModeldropError
from modeldrop.format.names import check_channel
from modeldrop.registry.channels import refresh
from modeldrop.registry.signing import require_signer
from modeldrop.registry.versions import list_channels, models_named
from modeldrop.site.upkeep import keep_site

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place", metavar="REGISTRY[/MODEL]", nargs="?", default="", help="all models of a registry, or one"
    )
    parser.add_argument("--channel", metavar="C", help="only this channel (default: all that are signed)")
    parser.add_argument("--expires-in", metavar="TIME", help="how long the new signatures count, such as 7d")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    wanted = None if arguments.channel is None else check_channel(arguments.channel)
    given = arguments.expires_in
    expires_in = None if given is None else read_duration(given, "--expires-in", unit="s")
    require_signer()
    store, models, _ = models_named(arguments.place)
    documents: list[dict[str, Any]] = []
    codes: list[int] = []
    for model in models:
        channels = list_channels(store, model)
        renewed = len(documents)
        names = list(channels) if wanted is None else [wanted]
        for name in names:
            if wanted is None and channels[name].signed is None:
                _tell(arguments, f"{model}@{name} is not signed")
                continue
            try:
                done = refresh(store, model, name, expires_in=expires_in)
            except ModeldropError as error:
                if arguments.debug:
                    raise
                print(f"modeldrop: {model}@{name}: {error}", file=sys.stderr)
                codes.append(error.exit_code)
                continue
            documents.append({"model": model, **channel_json(done)})
            _tell(arguments, f"{model}@{name} stays at v{done.after}: {done.reason}")
        if len(documents) > renewed:
            keep_site(store, model)
    if arguments.json:
        print_json(documents)
    return codes[0] if codes else 0


def _tell(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.json:
        print(text)
