"""Reading, checking and linking the files of a source on this disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from modeldrop.errors import DiskError, SourceError
from modeldrop.util.files import sha256_file

JSON_LIMIT = 64 * 1024 * 1024
# The format's own limit, in the safetensors library too.
_HEADER_LIMIT = 100_000_000
_README_LIMIT = 1024 * 1024


def unreadable_file(what: str, error: OSError) -> SourceError:
    """The error for a file that cannot be read."""
    return SourceError(f"{what} cannot be read: {error.strerror or error}.", "Check permissions and disk.")


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file of bounded size.

    Raises:
        SourceError: it cannot be read, is too large, or is not JSON.
    """
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise SourceError(f"{what} is larger than {JSON_LIMIT >> 20} MiB, which no such file is.")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable_file(what, error) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{what} is not valid JSON: {error}.") from error


def read_readme(path: Path) -> str:
    """The beginning of a README, with whatever is no UTF-8 replaced; "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_README_LIMIT).decode("utf-8", errors="replace")
    except OSError:
        return ""


def sha256_of(path: Path, what: str) -> str:
    """The SHA-256 of a file, read in pieces.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        return sha256_file(path)
    except OSError as error:
        raise unreadable_file(what, error) from error


@contextmanager
def opened(path: Path, what: str) -> Iterator[BinaryIO]:
    """A file to read.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise unreadable_file(what, error) from error


def git_blob_id(file: BinaryIO, size: int) -> str:
    """The id that git gives a file of so many bytes."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    while piece := file.read(1024 * 1024):
        digest.update(piece)
    return digest.hexdigest()


def check_safetensors(path: Path, what: str) -> None:
    """Check that a safetensors file has a header, and exactly the data that the header promises.

    Raises:
        SourceError: it is truncated, too long or no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8:
                raise _truncated(what, size, "at least 8")
            if length > _HEADER_LIMIT:
                raise SourceError(f"{what} is not a safetensors file: its header would have {length} bytes.")
            if 8 + length > size:
                raise _truncated(what, size, f"at least {8 + length}")
            header = json.loads(file.read(length))
        end = _data_length(header)
    except OSError as error:
        raise unreadable_file(what, error) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{what} is not a safetensors file: its header does not parse.") from error
    expected = 8 + length + end
    if size < expected:
        raise _truncated(what, size, str(expected))
    if size > expected:
        raise SourceError(f"{what} is damaged: it has {size} bytes, its header promises {expected}.")


def create_folder(folder: Path) -> None:
    """Make a folder, and those above it.

    Raises:
        DiskError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def link_into(into: Path, files: Mapping[str, Path]) -> None:
    """Make ``into`` a folder of links to exactly these files; of a graph's data, copies.

    The onnx library reads no data through links, symbolic or hard.

    Raises:
        DiskError: it is not empty, or cannot be written.
    """
    create_folder(into)
    try:
        if any(into.iterdir()):
            raise DiskError(f"{into} is not empty.", "Give an empty folder, or one that does not exist yet.")
        for name, path in sorted(files.items()):
            link = into / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if name.startswith("onnx/") and not name.endswith(".onnx"):
                shutil.copyfile(path, link)
            else:
                link.symlink_to(os.path.realpath(path))
    except OSError as error:
        raise _unwritable(into, error) from error


def link_more(into: Path, files: Mapping[str, Path]) -> None:
    """Add links to a folder that has none of these names.

    Raises:
        DiskError: it cannot be written.
    """
    try:
        for name, path in sorted(files.items()):
            (into / name).symlink_to(path)
    except OSError as error:
        raise _unwritable(into, error) from error


def _unwritable(folder: Path, error: OSError) -> DiskError:
    return DiskError(f"{folder} cannot be written: {error.strerror or error}.")


def _truncated(what: str, size: int, expected: str) -> SourceError:
    return SourceError(
        f"{what} is truncated: it has {size} bytes, {expected} were expected.",
        "Copy or download it again.",
    )


def _data_length(header: object) -> int:
    """Where the last tensor ends; ValueError for what is no safetensors header."""
    if not isinstance(header, dict):
        raise ValueError("no object")
    end = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
        match offsets:
            case [int(first), int(last)] if 0 <= first <= last:
                end = max(end, last)
            case _:
                raise ValueError(f"tensor {name!r} has no offsets")
    return end
