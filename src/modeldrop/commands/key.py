"""Make a key to sign versions and channels with, or show the public one that belongs to it.

modeldrop key new signing.key
modeldrop key show signing.key

The file holds the private key: put what is in it into a secret of your CI that is called MODELDROP_SIGNING_KEY, or
set that to the file's path. What is printed is the public key: list it where you fetch (MODELDROP_TRUST, or trust in
modeldrop.toml). Without FILE, show prints the public keys of MODELDROP_SIGNING_KEY. An Ed25519 key in PEM will do too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.errors import DiskError, UsageError
from modeldrop.registry.signing import SigningKey, new_key, read_keys, signing_keys

if TYPE_CHECKING:
    import argparse

_MAX_FILE = 64 << 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("new", "show"), help="what to do")
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="holds the private key")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    found = _new(arguments.file) if arguments.action == "new" else _show(arguments.file)
    public = [key.public for key in found]
    if arguments.json:
        print_json(public)
    else:
        print("\n".join(public))
    return 0


def _new(path: Path | None) -> list[SigningKey]:
    if path is None:
        raise UsageError("No file for the private key is named.", "Name one: modeldrop key new signing.key")
    secret, key = new_key()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already, and a key that is lost cannot be made again.",
            f"Name another file, or see whose it is: modeldrop key show {path}",
        ) from None
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}.", "Name a file that you may write.") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
    return [key]


def _show(path: Path | None) -> list[SigningKey]:
    if path is None:
        found = signing_keys()
        if not found:
            raise UsageError(
                "MODELDROP_SIGNING_KEY is not set, and no file is named.",
                "Name the file with the private key: modeldrop key show FILE",
            )
        return found
    try:
        with path.open("rb") as file:
            return read_keys(file.read(_MAX_FILE).decode(errors="replace"), str(path))
    except OSError as error:
        raise DiskError(f"{path} cannot be read: {error.strerror}.", "Name the file with the private key.") from None
