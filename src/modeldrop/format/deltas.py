"""The index of a version's deltas: from which other versions its large files can be made, and of what bytes.

A delta is the XOR of a file with the file of the same path in another version, the base: piece by piece, as the
manifest cuts the file, each compressed by itself. Where the base's file is shorter it counts as continued with zero
bytes, where it is longer its end counts for nothing. Nobody need believe a delta: what is made of it has the digests of
the manifest, or is not used. So the index is not part of the manifest, and a version is the same with and without it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from modeldrop.format.codec import DocumentFormat, IntegerField, ListField, ObjectField, Record, TextField
from modeldrop.format.manifest import (
    FILE,
    MAX_FILE_SIZE,
    MAX_FILES,
    MAX_PIECE_SIZE,
    MAX_PIECES,
    MIN_PIECE_SIZE,
    PIECE_SIZE,
    File,
    FilePathField,
)
from modeldrop.format.names import DELTAS, DIGEST, HEX64, check_distinct
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from modeldrop.format.json_fields import Fields

DELTA_INDEX_FILE = f"{DELTAS}.json"
"""Path of the index below a version."""
MIN_FILE = 5_000_000
"""Bytes of a file that has deltas: a smaller one comes as fast as the question for them."""
MAX_PIECE = 16 << 20
"""Bytes of a piece, at most, of files that have deltas: several pieces are in memory at once."""
MAX_BYTES = 16 << 20
MAX_BASES = 64
XOR_ZLIB = "xor-zlib"
"""The only encoding so far: the XOR's bytes in planes, each piece a zlib stream."""
MAX_WIDTH = 16
_SHORT = 16
# Zero bytes and lone others: looking for anything but runs takes longer and finds nothing (docs/benchmarks.md).
_LEVEL, _MEMORY, _STRATEGY = 6, 9, zlib.Z_RLE


class FileDelta(NamedTuple):
    """What makes one file of the version of the same file in the base.

    Attributes:
        path: of the file, in both versions.
        base_size: bytes of the base's file.
        base_sha256: its SHA-256.
        stored: the object that holds the compressed pieces, one after the other; its path is below the version, its
            pieces are those of the index.
        lengths: bytes of it for every piece of the file; 0 where the XOR is nothing but zeros.
        width: how many bytes apart those are that were put together before they were compressed: the size of the
            file's numbers. 1 where they stay as they are.
        encoding: how the pieces are encoded. Readers leave alone what they do not know.
    """

    path: str
    base_size: int
    base_sha256: str
    stored: File
    lengths: tuple[int, ...]
    width: int = 1
    encoding: str = XOR_ZLIB

    @property
    def is_readable(self) -> bool:
        """Whether this release can decode it."""
        return self.encoding == XOR_ZLIB


class BaseDeltas(NamedTuple):
    """All that can be made of one base, which the digest of its manifest names: numbers are each registry's own."""

    manifest: str
    files: tuple[FileDelta, ...]

    @property
    def size(self) -> int:
        """Bytes of its deltas."""
        return sum(file.stored.size for file in self.files)


class DeltaIndex(NamedTuple):
    """The deltas of a version. ``piece_size`` is that of the objects that hold them."""

    bases: tuple[BaseDeltas, ...]
    piece_size: int = PIECE_SIZE


def encode_piece(base: bytes, new: bytes, width: int = 1) -> bytes:
    """The bytes that make a piece of the base's; b"" where it is the same.

    Args:
        base: the bytes of the base at that place, as many as the piece has, or fewer where its file ends.
        new: the piece.
        width: see ``FileDelta``.
    """
    if _continued(base, len(new)) == new:
        return b""
    difference = _xor(base, new, len(new))
    planes = b"".join(difference[start::width] for start in range(width))
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY, _STRATEGY)
    return packer.compress(planes) + packer.flush()


def decode_piece(base: bytes, data: bytes, size: int, width: int = 1) -> bytes | None:
    """The piece of ``size`` bytes that ``encode_piece`` was given; None where ``data`` gives none of that size.

    Whoever has written ``data``, no more than twice ``size`` is in memory for it; what comes out is to be verified.
    """
    if not data:
        return _continued(base, size)
    unpacker = zlib.decompressobj()
    try:
        planes = unpacker.decompress(data, size + 1)
    except zlib.error:
        return None
    if len(planes) != size:
        return None
    if width > 1:
        difference = bytearray(size)
        at = 0
        for start in range(width):
            count = len(range(start, size, width))
            difference[start::width] = planes[at : at + count]
            at += count
        planes = bytes(difference)
    return _xor(base, planes, size)


def _continued(base: bytes, size: int) -> bytes:
    return base[:size].ljust(size, b"\0")


def _xor(one: bytes, other: bytes, size: int) -> bytes:
    """Both combined, the shorter one continued with zeros; ``size`` bytes."""
    both = int.from_bytes(one[:size], "little") ^ int.from_bytes(other[:size], "little")
    return both.to_bytes(size, "little")


def delta_path(base: str, path: str) -> str:
    """Path below a version of a file's delta from the base with this manifest digest."""
    return f"{delta_folder(base)}/{path}"


def delta_folder(base: str) -> str:
    """Path below a version of all its deltas from the base with this manifest digest."""
    return f"{DELTAS}/{base.removeprefix('sha256:')[:_SHORT]}"


def _check(fields: Fields, index: DeltaIndex) -> None:
    if len({base.manifest for base in index.bases}) < len(index.bases):
        fields.fail("names a base twice", "bases")
    stored = [file for base in index.bases for file in base.files]
    check_distinct(file.stored.path for file in stored)
    for file in stored:
        if sum(file.lengths) != file.stored.size:
            fields.fail(f"the pieces of {file.path[:120]!r} have {sum(file.lengths)} bytes together", "bases")
        if len(file.stored.pieces) != -(-file.stored.size // index.piece_size):
            fields.fail(f"{file.stored.path[:120]!r} has the wrong number of digests", "bases")


FILE_DELTA = Record(
    FileDelta,
    path=FilePathField("Path of the file, in this version and in the base.", limit=4096),
    base_size=IntegerField("Bytes of the base's file.", low=0, high=MAX_FILE_SIZE),
    base_sha256=TextField("SHA-256 of the base's file.", pattern=HEX64),
    encoding=TextField("How the pieces are encoded: xor-zlib. Others are left alone.", limit=64, default=XOR_ZLIB),
    width=IntegerField(
        "Bytes of a number: a piece's XOR has first all first bytes, then all second ones, and so on.",
        low=1,
        high=MAX_WIDTH,
    ),
    lengths=ListField(
        "Bytes of the stored object for every piece of the file in order; 0 where the piece is that of the base.",
        IntegerField(low=0, high=MAX_PIECE_SIZE),
        limit=MAX_PIECES,
    ),
    stored=ObjectField(FILE, "The object that holds them, one after the other."),
)

BASE_DELTAS = Record(
    BaseDeltas,
    manifest=TextField("Digest of the base's manifest.", pattern=DIGEST),
    files=ListField("The files that can be made of it.", ObjectField(FILE_DELTA), limit=MAX_FILES),
)

DELTA_INDEX = DocumentFormat(
    "modeldrop/deltas/1",
    "index of deltas",
    Record(
        DeltaIndex,
        "The deltas of a version: from which other versions its large files can be made.",
        piece_size=IntegerField(
            "Bytes of every piece of a stored object but its last one.", low=MIN_PIECE_SIZE, high=MAX_PIECE
        ),
        bases=ListField("The versions that it can be made of.", ObjectField(BASE_DELTAS), limit=MAX_BASES),
        check=_check,
    ),
    limit=MAX_BYTES,
)
parse_delta_index, serialize_delta_index = DELTA_INDEX.parse, DELTA_INDEX.serialize
