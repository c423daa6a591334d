"""Look at the snapshots on this disk, or remove those that nobody needs.

modeldrop cache ls -d /models
modeldrop cache prune -d /models --keep 1

prune keeps, of every model, the snapshots that were used last, whatever a link names, whatever a running process
uses, and whatever was used within --older-than. fetch does the same after every new version, with 10 minutes for
--older-than, and without it before a download that does not fit.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import home_folder, read_duration
from modeldrop.errors import DiskError, UsageError
from modeldrop.fetcher.eviction import DiskUse, disk_bytes, evict, leftovers, survey
from modeldrop.fetcher.home import ModelHome, find_models
from modeldrop.fetcher.options import DEFAULT_KEEP
from modeldrop.util.text import iso_time, size_text, table

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
        "--older-than", default="0s", metavar="AGE", help="prune: only what was not used for so long (default: 0s)"
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
        if error.filename is None:
            raise  # it is what was printed that found no room
        raise DiskError(
            f"{home} cannot be read: {error.strerror or error}.", "Name the folder that fetch was given (-d)."
        ) from error
    return 0


def _ls(home: Path, *, as_json: bool) -> None:
    now = time.time()
    models = find_models(home)
    found = {model: survey(home / model, now) for model in models}
    total = disk_bytes(*(use.snapshot.path for uses in found.values() for use in uses))
    unfinished = sum(leftovers(home / model) for model in models)
    if as_json:
        print_json(
            {
                "home": str(home),
                "disk_bytes": total,
                "unfinished_bytes": unfinished,
                "snapshots": [_json(model, use) for model, uses in found.items() for use in uses],
            }
        )
        return
    rows = [
        (
            model,
            use.snapshot.path.name,
            f"v{use.snapshot.version}",
            _variant(use),
            size_text(use.disk_bytes),
            size_text(use.own_bytes),
            iso_time(use.last_use),
            ", ".join(use.links),
            use.used_by,
        )
        for model, uses in found.items()
        for use in uses
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
    removed: list[tuple[str, DiskUse]] = []
    for model in find_models(home):
        uses = {use.snapshot.path: use for use in survey(home / model, now)}
        paths = evict(ModelHome(home, model), arguments.keep, now=now, idle=idle, dry_run=arguments.dry_run)
        removed += [(model, uses[path]) for path in paths if path in uses]
    freed = sum(use.own_bytes for _, use in removed)
    if arguments.json:
        print_json(
            {
                "home": str(home),
                "dry_run": arguments.dry_run,
                "freed_bytes": freed,
                "removed": [_json(model, use) for model, use in removed],
            }
        )
        return
    for model, use in removed:
        did = "would remove" if arguments.dry_run else "removed"
        print(f"{did} {model} {use.snapshot.path.name}, last used {iso_time(use.last_use)}")
    print(f"{'Would free' if arguments.dry_run else 'Freed'} {size_text(freed)}." if removed else "Nothing to remove.")


def _json(model: str, use: DiskUse) -> dict[str, object]:
    return {
        "model": model,
        "snapshot": use.snapshot.path.name,
        "path": str(use.snapshot.path),
        "version": f"v{use.snapshot.version}",
        "variant": _variant(use),
        "disk_bytes": use.disk_bytes,
        "own_bytes": use.own_bytes,
        "last_use": iso_time(use.last_use),
        "links": list(use.links),
        "in_use": use.used_by or None,
    }


def _variant(use: DiskUse) -> str:
    return use.snapshot.variant + use.snapshot.suffix
