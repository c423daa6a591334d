"""Hash snapshots on this disk again, every byte, and say which are damaged. Asks no registry but one in a folder.

modeldrop verify -d /models                        all snapshots of all models
modeldrop verify -d /models embedder               those of one model
modeldrop verify -d /models s3://acme-models/embedder@v3
modeldrop verify /models/embedder/current          one folder
modeldrop verify /mnt/usb/models/embedder@v3       a version in a folder, however it was copied there
modeldrop verify ./embedder-v3                     the same without its registry: aws s3 sync s3://…/v3 embedder-v3

Exit code 14 if one is damaged or holds a file that does not belong there, 5 if there is nothing to verify.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.config import home_folder
from modeldrop.errors import DiskError, FormatError, IntegrityError, NotFoundError
from modeldrop.fetcher.home import find_links, find_models, find_snapshots, read_link
from modeldrop.fetcher.leases import hold
from modeldrop.fetcher.options import Options
from modeldrop.fetcher.resolve import Resolver
from modeldrop.fetcher.snapshot import MANIFEST_FILE, SHORT_DIGEST, LocalSnapshot
from modeldrop.fetcher.verify import find_damage, find_damage_of_copy
from modeldrop.format import keys
from modeldrop.format.manifest import MAX_BYTES, manifest_digest, parse_manifest
from modeldrop.format.records import find_seal
from modeldrop.util.files import expand_user
from modeldrop.util.retry import Deadline
from modeldrop.util.text import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from modeldrop.format.reference import Reference


@dataclass(frozen=True, slots=True)
class CheckedFolder:
    """What was found: the folder, what is wrong, the variants that are there, and the manifest's digest."""

    path: str
    damages: tuple[str, ...]
    variants: tuple[str, ...]
    digest: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("what", metavar="MODEL|REFERENCE|PATH", nargs="*", help="default: all that is there")
    parser.add_argument("-d", "--directory", metavar="DIR", help="where snapshots are kept (or MODELDROP_HOME)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    home = home_folder(arguments.directory)
    try:
        if arguments.what:
            in_home = arguments.directory is not None
            found = [one for text in arguments.what for one in _verify(text, home, in_home=in_home)]
        else:
            found = [one for model in find_models(home) for one in _verify_snapshots(find_snapshots(home / model))]
    except OSError as error:
        if error.filename is None:
            raise  # it is what was printed that found no room
        raise DiskError(
            f"{error.filename or home} cannot be read: {error.strerror or error}.",
            "Name the folder that fetch was given.",
        ) from error
    found = list({one.path: one for one in found}.values())
    if arguments.json:
        print_json(
            [
                {
                    "path": one.path,
                    "damages": one.damages,
                    "whole": not one.damages,
                    "variants": one.variants,
                    "digest": one.digest or None,
                }
                for one in found
            ]
        )
    elif found:
        rows = [(one.path, ", ".join(one.variants), "damaged" if one.damages else "whole") for one in found]
        print(table(("snapshot", "variants", "state"), rows))
    if not found:
        raise NotFoundError(
            f"{home} holds no snapshots: nothing was verified.", "Name the folder that fetch was given (-d)."
        )
    damaged = [one.path for one in found if one.damages]
    if damaged:
        raise IntegrityError(
            "\n".join(sentence for one in found for sentence in one.damages),
            f"Remove {' and '.join(damaged)}, and fetch again; of a file that does not belong there, remove that file.",
        )
    return 0


def _verify(text: str, home: Path, *, in_home: bool) -> list[CheckedFolder]:
    """What a path, a model's name or a reference names.

    Raises:
        NotFoundError: nothing is there.
    """
    path = expand_user(text)
    with contextlib.suppress(OSError):
        path = path.parent / read_link(path)  # also where a link is a file
    path = path.resolve()
    if path.is_dir():
        with contextlib.suppress(FormatError):
            return [_verify_snapshot(LocalSnapshot(path))]
        if (path / MANIFEST_FILE).is_file():
            return [_verify_copy(path, None, all_variants=False)]
    if text in find_models(home):
        return _verify_snapshots(find_snapshots(home / text))
    reference = reference_argument(text)
    if "/" in text and not in_home and "://" not in reference.registry:
        return [_verify_version(reference)]
    found = _referenced(reference, home / reference.model)
    if not found:
        raise NotFoundError(f"{home} has no snapshot of {text}.", "See what there is: modeldrop cache ls")
    return _verify_snapshots(found)


def _verify_snapshots(snapshots: Iterable[LocalSnapshot]) -> list[CheckedFolder]:
    """Those that nobody has removed by now, to make room: that is no damage."""
    found = [(one.path, _verify_snapshot(one)) for one in snapshots]
    return [one for path, one in found if not one.damages or path.is_dir()]


def _verify_snapshot(snapshot: LocalSnapshot) -> CheckedFolder:
    """What every byte of it says; as far as there are locks, nobody removes it meanwhile."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.callback(os.close, hold(snapshot.path))
        damages = tuple(find_damage(snapshot, read_files=True))
    digest = ""
    with contextlib.suppress(OSError, FormatError):
        digest = snapshot.digest
    return CheckedFolder(str(snapshot.path), damages, (snapshot.variant,), digest)


def _verify_version(reference: Reference) -> CheckedFolder:
    """A version of a registry in a folder.

    Raises:
        NotFoundError: there is none.
        RegistryError: the folder is not there, or cannot be read.
    """
    resolver = Resolver(reference, Options(), Deadline(0), waits=lambda _: False, on_wait=lambda _: None)
    version = resolver.resolve(None)
    folder = Path(resolver.registry, keys.folder(reference.model, version.version))
    return _verify_copy(folder, version.digest, all_variants=True)


def _verify_copy(folder: Path, digest: str | None, *, all_variants: bool) -> CheckedFolder:
    path = folder / MANIFEST_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        manifest = parse_manifest(data)
    except FileNotFoundError:
        raise NotFoundError(f"{path} is not there.", "It was not copied, or not yet.") from None
    except FormatError as error:
        seal = find_seal(data)
        if seal is not None:
            raise NotFoundError(f"{folder} was pruned on {seal.at[:10]}: it holds no version any more.") from None
        return CheckedFolder(str(folder), (f"{path}: {error.message}",), (), "")
    found = manifest_digest(data)
    damages, variants = find_damage_of_copy(folder, manifest, all_variants=all_variants)
    if digest not in {None, found}:
        damages.insert(0, f"{path} has the digest {found}, not {digest} as promised.")
    return CheckedFolder(str(folder), tuple(damages), tuple(variants), found)


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
