"""Look at the snapshots on this disk, or remove those that nobody needs.

modeldrop cache ls -d /models
modeldrop cache prune -d /models --keep 1

prune keeps, of every model, the snapshots that were used last, whatever a link names, whatever a running process
uses, and whatever was used within --older-than. fetch does the same after every new version.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import home_folder, read_duration
from modeldrop.errors import DiskError, UsageError
from modeldrop.fetcher.eviction import DEFAULT_KEEP, Kept, disk_bytes, evict, leftovers, survey
from modeldrop.fetcher.home import ModelHome, find_models
from modeldrop.util.text import size_text, table

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("ls", "prune"), help="ls changes nothing")
    parser.add_argument("-d", "--directory", metavar="DIR", help="where snapshots are kept (or MODELDROP_HOME)")
    parser.add_argument(
        "--keep", type=int, default=DEFAULT_KEEP, metavar="N",
        help=f"prune: snapshots of each model that stay, the last used ones (default: {DEFAULT_KEEP})",
    )  # fmt: skip
    parser.add_argument(
        "--older-than", default="24h", metavar="AGE", help="prune: only what was not used for so long (default: 24h)"
    )
    parser.add_argument("--dry-run", action="store_true", help="prune: say what would go, and remove nothing")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    home = home_folder(arguments.directory)
    try:
        if arguments.action == "ls":
            _ls(home, as_json=arguments.json)
        else:
            _prune(home, arguments)
    except OSError as error:
        raise DiskError(
            f"{home} cannot be read: {error.strerror or error}.", "Name the folder that fetch was given (-d)."
        ) from error
    return 0


def _ls(home: Path, *, as_json: bool) -> None:
    now = time.time()
    models = find_models(home)
    found = {model: survey(home / model, now) for model in models}
    total = disk_bytes(*(kept.path for kepts in found.values() for kept in kepts))
    unfinished = sum(leftovers(home / model) for model in models)
    if as_json:
        print_json(
            {
                "home": str(home),
                "disk_bytes": total,
                "unfinished_bytes": unfinished,
                "snapshots": [_json(model, kept) for model, kepts in found.items() for kept in kepts],
            }
        )
        return
    rows = [
        (
            model,
            kept.path.name,
            f"v{kept.version}",
            kept.variant,
            size_text(kept.disk_bytes),
            size_text(kept.own_bytes),
            _time(kept.last_use),
            ", ".join(kept.links),
            kept.used_by,
        )
        for model, kepts in found.items()
        for kept in kepts
    ]
    if not rows:
        print(f"{home} holds no snapshots.")
    else:
        header = ("model", "snapshot", "version", "variant", "on disk", "its own", "last use", "links", "in use")
        print(table(header, rows, right=(4, 5)))
        print(f"{size_text(total)} in all.")
    if unfinished:
        print(f"{size_text(unfinished)} of unfinished work, which the next fetch goes on with, or sweeps after a day.")


def _prune(home: Path, arguments: argparse.Namespace) -> None:
    if arguments.keep < 0:
        raise UsageError(f"--keep {arguments.keep} is not a number of snapshots.", "Write 0 or more.")
    idle = read_duration(arguments.older_than, "--older-than")
    now = time.time()
    gone: list[tuple[str, Kept]] = []
    for model in find_models(home):
        kepts = {kept.path: kept for kept in survey(home / model, now)}
        went = evict(ModelHome(home, model), arguments.keep, now=now, idle=idle, dry_run=arguments.dry_run)
        gone += [(model, kepts[path]) for path in went if path in kepts]
    freed = sum(kept.own_bytes for _, kept in gone)
    if arguments.json:
        print_json(
            {
                "home": str(home),
                "dry_run": arguments.dry_run,
                "freed_bytes": freed,
                "removed": [_json(model, kept) for model, kept in gone],
            }
        )
        return
    for model, kept in gone:
        did = "would remove" if arguments.dry_run else "removed"
        print(f"{did} {model} {kept.path.name}, last used {_time(kept.last_use)}")
    print(f"{'Would free' if arguments.dry_run else 'Freed'} {size_text(freed)}." if gone else "Nothing to remove.")


def _json(model: str, kept: Kept) -> dict[str, object]:
    return {
        "model": model,
        "snapshot": kept.path.name,
        "path": str(kept.path),
        "version": f"v{kept.version}",
        "variant": kept.variant,
        "disk_bytes": kept.disk_bytes,
        "own_bytes": kept.own_bytes,
        "last_use": _time(kept.last_use),
        "links": list(kept.links),
        "in_use": kept.used_by or None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
