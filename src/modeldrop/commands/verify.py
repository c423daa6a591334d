"""Hash snapshots on this disk again, every byte, and say which are damaged. Asks no registry.

modeldrop verify -d /models                        all snapshots of all models
modeldrop verify -d /models embedder               those of one model
modeldrop verify -d /models s3://acme-models/embedder@v3
modeldrop verify /models/embedder/current          one folder

Exit code 14 if one is damaged.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.config import home_folder
from modeldrop.errors import DiskError, IntegrityError, NotFoundError
from modeldrop.fetcher.home import find_models, parse_folder_name, snapshot_names
from modeldrop.fetcher.verify import damages
from modeldrop.util.text import table
from modeldrop.util.values import asdict, dataclass

if TYPE_CHECKING:
    import argparse

    from modeldrop.format.reference import Reference


@dataclass(frozen=True, slots=True)
class Verified:
    """A snapshot that was hashed: its folder, and what is wrong with it, a sentence each."""

    path: str
    damages: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("what", metavar="MODEL|REFERENCE|PATH", nargs="*", help="default: all that is there")
    parser.add_argument("-d", "--directory", metavar="DIR", help="where snapshots are kept (or MODELDROP_HOME)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    home = home_folder(arguments.directory)
    try:
        folders = (
            _everything(home)
            if not arguments.what
            else [path for text in arguments.what for path in _meant(text, home)]
        )
        found = [Verified(str(path), tuple(damages(path))) for path in dict.fromkeys(folders)]
    except OSError as error:
        raise DiskError(
            f"{home} cannot be read: {error.strerror or error}.", "Name the folder that fetch was given."
        ) from error
    damaged = [one for one in found if one.damages]
    if arguments.json:
        print_json([asdict(one) | {"whole": not one.damages} for one in found])
    elif not found:
        print(f"{home} holds no snapshots.")
    else:
        print(table(("snapshot", "state"), [(one.path, "damaged" if one.damages else "whole") for one in found]))
    if damaged:
        raise IntegrityError(
            "\n".join(damage for one in damaged for damage in one.damages),
            f"Remove {' and '.join(one.path for one in damaged)}, and fetch again.",
        )
    return 0


def _everything(home: Path) -> list[Path]:
    return [home / model / name for model in find_models(home) for name in snapshot_names(home / model)]


def _meant(text: str, home: Path) -> list[Path]:
    """The snapshots that a path, a model's name or a reference names.

    Raises:
        NotFoundError: none is there.
    """
    path = Path(text).expanduser()
    if parse_folder_name(path.resolve().name) and path.is_dir():
        return [path.resolve()]
    if text in find_models(home):
        return [home / text / name for name in snapshot_names(home / text)]
    reference = reference_argument(text)
    found = _referenced(reference, home / reference.model)
    if not found:
        raise NotFoundError(f"{home} has no snapshot of {text}.", "See what there is: modeldrop cache ls")
    return found


def _referenced(reference: Reference, model_home: Path) -> list[Path]:
    names = snapshot_names(model_home)
    if reference.version is not None:
        names = [name for name in names if name.startswith(f"v{reference.version}-")]
    elif reference.channel is not None:
        linked = _named_by(model_home, reference.channel)
        names = [name for name in names if name in linked]
    if reference.digest is not None:
        short = reference.digest.removeprefix("sha256:")[:12]
        names = [name for name in names if (said := parse_folder_name(name)) and said.digest == short]
    return [model_home / name for name in names]


def _named_by(model_home: Path, channel: str) -> set[str]:
    """Names of what the links of a channel lead to: ``current`` and ``current-fp32``."""
    found = set()
    for entry in os.scandir(model_home):
        if entry.is_symlink() and (entry.name == channel or entry.name.startswith(f"{channel}-")):
            found.add(Path(entry.path).readlink().name)
    return found
