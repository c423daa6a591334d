"""The layer of an image: an uncompressed tar of a snapshot below ``/models``, the same bytes on every machine.

Entries are sorted by path and belong to root; files are 0444, folders 0755; their time is 0. The headers are written
here, not by ``tarfile``, whose bytes have changed between releases of Python: POSIX's ustar, and pax records where a
path or size does not fit into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from modeldrop.oci.blobs import Blob, Content, blob_of
from modeldrop.oci.contents import folders_of

if TYPE_CHECKING:
    from modeldrop.oci.contents import Entry

ROOT = "models"
"""The folder in the image, where KServe looks."""

_BLOCK = 512
_END = bytes(2 * _BLOCK)
_NOTHING = blob_of(b"")
_FILE, _FOLDER, _PAX = b"0", b"5", b"x"
_FILE_MODE, _FOLDER_MODE = 0o444, 0o755
_MAX_NAME = 100
_MAX_SIZE = 0o77777777777
_PAX_NAME = b"PaxHeaders/entry"


def layer_of(
    entries: tuple[Entry, ...], progress: Callable[[int], None], begin: Callable[[Content], None] = lambda _: None
) -> Blob:
    """The layer with these files. Every one of them is read once, to learn the layer's digest.

    Args:
        entries: the files, sorted.
        progress: told bytes as they are hashed.
        begin: told of the layer before it is hashed.

    Raises:
        IntegrityError: a file is not as the manifest says.
        OSError: it cannot be read.
    """
    members, hasher = tuple(_members(entries)), hashlib.sha256()
    size = sum(len(header) + blob.size + len(_padding(blob)) for header, blob in members) + len(_END)
    content = Content(size, lambda: _tar(members))
    begin(content)
    for chunk in content.read():
        hasher.update(chunk)
        progress(len(chunk))
    return Blob(f"sha256:{hasher.hexdigest()}", content.size, content.read)


def _tar(members: tuple[tuple[bytes, Blob], ...]) -> Iterator[bytes]:
    for header, blob in members:
        yield header
        yield from blob.read()
        yield _padding(blob)
    yield _END


def _members(entries: tuple[Entry, ...]) -> Iterator[tuple[bytes, Blob]]:
    """The header of every folder and file, and what follows it."""
    members: dict[str, Entry | None] = {ROOT: None}
    members |= {f"{ROOT}/{folder}": None for folder in folders_of(entries)}
    members |= {f"{ROOT}/{entry.path}": entry for entry in entries}
    for path, entry in sorted(members.items()):
        if entry is None:
            yield _header(f"{path}/", 0, _FOLDER, _FOLDER_MODE), _NOTHING
        else:
            yield _header(path, entry.blob.size, _FILE, _FILE_MODE), entry.blob


def _padding(blob: Blob) -> bytes:
    return bytes(-blob.size % _BLOCK)


def _header(path: str, size: int, kind: bytes, mode: int) -> bytes:
    name, records = path.encode(), b""
    if len(name) > _MAX_NAME or not path.isascii():
        records += _record(b"path", name)
        name = b"entry/" if kind == _FOLDER else b"entry"
    if size > _MAX_SIZE:
        records += _record(b"size", str(size).encode())
        size = 0
    extended = b""
    if records:
        extended = _block(_PAX_NAME, len(records), _PAX, 0o644) + records + bytes(-len(records) % _BLOCK)
    return extended + _block(name, size, kind, mode)


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record, which begins with its own length."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _block(name: bytes, size: int, kind: bytes, mode: int) -> bytes:
    fields = (
        name.ljust(_MAX_NAME, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,  # user
        b"%07o\0" % 0,  # group
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time
        b" " * 8,  # the sum, counted as blanks
        kind,
        bytes(100),  # no link
        b"ustar\00000",
        bytes(64),  # names of user and group
        b"%07o\0" % 0,  # device
        b"%07o\0" % 0,
        bytes(167),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
