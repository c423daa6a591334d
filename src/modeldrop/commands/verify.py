"""Hash snapshots on this disk again, every byte, and say which are damaged. Asks no registry.

modeldrop verify -d /models                        all snapshots of all models
modeldrop verify -d /models embedder               those of one model
modeldrop verify -d /models s3://acme-models/embedder@v3
modeldrop verify /models/embedder/current          one folder

Exit code 14 if one is damaged.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.config import home_folder
from modeldrop.errors import DiskError, FormatError, IntegrityError, NotFoundError
from modeldrop.fetcher.home import find_links, find_models, find_snapshots
from modeldrop.fetcher.snapshot import SHORT_DIGEST, LocalSnapshot
from modeldrop.fetcher.verify import find_damage
from modeldrop.util.text import table

if TYPE_CHECKING:
    import argparse

    from modeldrop.format.reference import Reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("what", metavar="MODEL|REFERENCE|PATH", nargs="*", help="default: all that is there")
    parser.add_argument("-d", "--directory", metavar="DIR", help="where snapshots are kept (or MODELDROP_HOME)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    home = home_folder(arguments.directory)
    try:
        snapshots = (
            _everything(home)
            if not arguments.what
            else [snapshot for text in arguments.what for snapshot in _select(text, home)]
        )
        unique = {str(snapshot.path): snapshot for snapshot in snapshots}
        damages = {path: tuple(find_damage(snapshot, read_files=True)) for path, snapshot in unique.items()}
    except OSError as error:
        raise DiskError(
            f"{home} cannot be read: {error.strerror or error}.", "Name the folder that fetch was given."
        ) from error
    damaged = [path for path, found in damages.items() if found]
    if arguments.json:
        print_json([{"path": path, "damages": found, "whole": not found} for path, found in damages.items()])
    elif not damages:
        print(f"{home} holds no snapshots.")
    else:
        print(
            table(("snapshot", "state"), [(path, "damaged" if found else "whole") for path, found in damages.items()])
        )
    if damaged:
        raise IntegrityError(
            "\n".join(sentence for found in damages.values() for sentence in found),
            f"Remove {' and '.join(damaged)}, and fetch again.",
        )
    return 0


def _everything(home: Path) -> list[LocalSnapshot]:
    return [snapshot for model in find_models(home) for snapshot in find_snapshots(home / model)]


def _select(text: str, home: Path) -> list[LocalSnapshot]:
    """The snapshots that a path, a model's name or a reference names.

    Raises:
        NotFoundError: none is there.
    """
    path = Path(text).expanduser().resolve()
    if path.is_dir():
        with contextlib.suppress(FormatError):
            return [LocalSnapshot(path)]
    if text in find_models(home):
        return find_snapshots(home / text)
    reference = reference_argument(text)
    found = _referenced(reference, home / reference.model)
    if not found:
        raise NotFoundError(f"{home} has no snapshot of {text}.", "See what there is: modeldrop cache ls")
    return found


def _referenced(reference: Reference, model_home: Path) -> list[LocalSnapshot]:
    found = find_snapshots(model_home)
    if reference.version is not None:
        found = [one for one in found if one.version == reference.version]
    elif reference.channel is not None:
        linked = _linked_by(model_home, reference.channel)
        found = [one for one in found if one.path.name in linked]
    if reference.digest is not None:
        short = reference.digest.removeprefix("sha256:")[:SHORT_DIGEST]
        found = [one for one in found if one.short_digest == short]
    return found


def _linked_by(model_home: Path, channel: str) -> set[str]:
    """Names of what the links of a channel lead to: ``current`` and ``current-fp32``."""
    return {
        Path(says).name
        for name, says in find_links(model_home).items()
        if name == channel or name.startswith(f"{channel}-")
    }
