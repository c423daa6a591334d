"""The files of a snapshot, as an export takes them: every byte is compared with the manifest when it is read."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from modeldrop.errors import FormatError, IntegrityError, RefusedError
from modeldrop.fetcher.layout import RENAMES_FILE
from modeldrop.fetcher.snapshot import MANIFEST_FILE, LocalSnapshot
from modeldrop.fetcher.triton import configs
from modeldrop.format.manifest import File
from modeldrop.oci.blobs import Blob, blob_of

_READ = 1 << 20
_WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a snapshot.

    Attributes:
        path: in the snapshot.
        blob: its bytes.
    """

    path: str
    blob: Blob


def entries_of(snapshot: LocalSnapshot) -> tuple[Entry, ...]:
    """All files of a snapshot, sorted by path: the variant's, the manifest, and what its layout brought.

    Reading one of them raises IntegrityError where it is not as the manifest says.

    Raises:
        IntegrityError: the snapshot was changed.
        RefusedError: a file has a name that image layers keep for themselves.
        OSError: it cannot be read.
    """
    try:
        renamed, manifest = snapshot.renamed, snapshot.manifest
        wanted = snapshot.sizes
        variant = manifest.variant(snapshot.variant)
        written = {MANIFEST_FILE: snapshot.manifest_bytes}
        if variant is not None and renamed:
            written |= configs(variant, renamed) | {RENAMES_FILE: (snapshot.path / RENAMES_FILE).read_bytes()}
    except FormatError as error:
        raise IntegrityError(
            f"{snapshot.path} was changed: {error.message}", "Remove it and run the same command again."
        ) from None
    entries = [Entry(path, blob_of(data)) for path, data in written.items()]
    for file in manifest.files:
        path = renamed.get(file.path, file.path)
        if path in wanted:
            entries.append(Entry(path, _file_blob(snapshot.path / path, file, manifest.piece_size)))
    for entry in entries:
        if any(part.startswith(_WHITEOUT) for part in entry.path.split("/")):
            raise RefusedError(
                f"{entry.path} cannot be in an image: names that begin with {_WHITEOUT} tell what layers remove.",
                "Publish the model without this file, or with it under another name.",
            )
    return tuple(sorted(entries, key=lambda entry: entry.path))


def folders_of(entries: tuple[Entry, ...]) -> tuple[str, ...]:
    """The folders that the entries are in, each once, sorted."""
    found: set[str] = set()
    for entry in entries:
        folder = posixpath.dirname(entry.path)
        while folder and folder not in found:
            found.add(folder)
            folder = posixpath.dirname(folder)
    return tuple(sorted(found))


def _file_blob(path: Path, file: File, piece_size: int) -> Blob:
    return Blob(f"sha256:{file.sha256}", file.size, lambda: _read_verified(path, file, piece_size))


def _read_verified(path: Path, file: File, piece_size: int) -> Iterator[bytes]:
    """The bytes of a file; a piece that is not as the manifest says ends it, before its last chunk is given."""
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            raise _damaged(path, "is missing") from None
        for index, expected in enumerate(file.pieces):
            hasher, left = blake3(), min(piece_size, file.size - index * piece_size)
            while left:
                chunk = source.read(min(_READ, left))
                if not chunk:
                    raise _damaged(path, "is shorter than the manifest says")
                hasher.update(chunk)
                left -= len(chunk)
                if not left and hasher.hexdigest() != expected:
                    raise _damaged(path, "does not have the digest that the manifest says")
                yield chunk
        if source.read(1):
            raise _damaged(path, "is longer than the manifest says")


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(
        f"{path} {what}.", "Remove the snapshot that it is in, and run the same command again: it is fetched anew."
    )
