"""Bring versions to this disk, complete and verified, and print the folders they are in.

The folder printed never changes; the link named after the channel moves.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, reference_argument
from modeldrop.runtime.fetch import fetch
from modeldrop.runtime.variants import AUTO

if TYPE_CHECKING:
    import argparse

    from modeldrop.format.reference import Reference
    from modeldrop.runtime.snapshot import Snapshot


def add_fetch_options(parser: argparse.ArgumentParser) -> None:
    """Arguments that ``run`` shares."""
    parser.add_argument("references", metavar="REFERENCE", nargs="+", help="REGISTRY/MODEL[@VERSION|@CHANNEL]")
    parser.add_argument("-d", "--directory", metavar="DIR", help="where snapshots are kept (or MODELDROP_HOME)")
    parser.add_argument("--variant", default=AUTO, help="the variant (default: auto, int8 where there is one)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_fetch_options(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    snapshots = fetch_all(arguments)
    if arguments.json:
        from modeldrop.commands.arguments import print_json

        print_json([snapshot.to_json() for snapshot in snapshots])
    else:
        for snapshot in snapshots:
            print(snapshot.path)
    return 0


def fetch_all(arguments: argparse.Namespace) -> list[Snapshot]:
    """Fetch every reference of the command line, all of them parsed before the first is fetched."""
    references = [reference_argument(text) for text in arguments.references]
    return [_fetch_one(reference, arguments) for reference in references]


def _fetch_one(reference: Reference, arguments: argparse.Namespace) -> Snapshot:
    live = sys.stderr.isatty() and not arguments.quiet

    def progress(done: int, total: int) -> None:
        if live:
            print(
                f"\r\x1b[K{reference.model}: {done / total:4.0%} of {total / 1e6:.1f} MB",
                end="",
                file=sys.stderr,
            )

    try:
        snapshot = fetch(reference, arguments.directory, variant=arguments.variant, progress=progress)
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr)
    if not arguments.quiet:
        came = f"{snapshot.downloaded / 1e6:.1f} MB fetched and verified" if snapshot.downloaded else "already there"
        print(f"{snapshot.model} v{snapshot.version} {snapshot.variant}: {came}", file=sys.stderr)
    return snapshot
