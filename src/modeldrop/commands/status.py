"""What this disk has of every channel, for health checks. Reads only the disk, never the network.

    modeldrop status
    modeldrop status /models --json --max-age 1h

Exit codes: 0 healthy; 5 nothing is there, or not yet; 14 a snapshot in use is damaged (files missing or of a wrong
size; 'modeldrop verify' reads them all); 20 a watch has not told every hook of what is in use, or is telling them; 12
the registry last answered longer ago than --max-age. A version in quarantine is shown, and is no reason to be
unhealthy: the one before is in use. Where that is the last good version because the registry could not be read, it says
since when.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import home_folder, read_duration
from modeldrop.fetcher.status import ChannelStatus, overall_code, read_status
from modeldrop.util.text import age_text, iso_time, table

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("directory", metavar="DIR", nargs="?", help="where snapshots are kept (or MODELDROP_HOME)")
    parser.add_argument("--max-age", metavar="AGE", help="how old the registry's last answer may be (default: any age)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    max_age = None if arguments.max_age is None else read_duration(arguments.max_age, "--max-age", unit="s")
    home = home_folder(arguments.directory)
    found = read_status(home)
    code = overall_code(found, max_age)
    if arguments.json:
        print_json(
            {
                "home": str(home),
                "healthy": code == 0,
                "exit_code": code,
                "channels": [status.to_json() | {"exit_code": status.code(max_age)} for status in found],
            }
        )
        return code
    if not found:
        print(f"modeldrop: {home} holds no model.", file=sys.stderr)
        return code
    rows = [_row(status, max_age) for status in found]
    print(table(("model", "link", "version", "variant", "generation", "asked", "state"), rows, right=(4, 5)))
    for status in found:
        for line in _lines(status):
            print(f"{status.model}{f'@{status.link}' if status.link else ''}: {line}")
    return code


def _row(status: ChannelStatus, max_age: float | None) -> tuple[str, ...]:
    states = {0: "healthy", 5: "nothing there", 12: "stale", 14: "damaged", 20: "untold"}
    return (
        status.model,
        status.link or "(pinned)",
        "" if status.snapshot is None else f"v{status.snapshot.version}",
        "" if status.snapshot is None else status.snapshot.variant,
        "" if status.generation is None else str(status.generation),
        "" if status.age is None else f"{age_text(status.age)} ago",
        states[status.code(max_age)],
    )


def _lines(status: ChannelStatus) -> list[str]:
    lines = [line for line in (status.fault, status.untold) if line]
    if status.quarantine is not None:
        found = status.quarantine
        lines.append(
            f"v{found.version} (generation {found.generation}) is in quarantine since {found.at}: {found.reason}"
        )
    fallback, snapshot = status.fallback, status.snapshot
    if fallback is not None and snapshot is not None:
        what = "registry unreachable" if fallback.unreachable else "nothing newer could be used"
        lines.append(
            f"using last good v{snapshot.version} ({snapshot.variant}), {what} since {iso_time(fallback.since)}: "
            f"{fallback.error}"
        )
    elif status.error:
        lines.append(f"for {age_text(status.error_seconds)}: {status.error}")
    return lines
