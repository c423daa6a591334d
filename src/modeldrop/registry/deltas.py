"""Deltas beside a version: its large files as differences from the versions that channels name.

They are made by the owner of a claim, between the upload and the commit, of files that the registry has: whoever has
one of these versions on his disk gets the next one with a fraction of its bytes. A version is whole without them, and
its manifest does not know of them. So nothing that goes wrong here is more than a warning.

``format/deltas.py`` says what a delta is; prune removes those of a version, and those from it (``forget_base``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from modeldrop.errors import ConflictError, DiskError, FormatError, ModeldropError
from modeldrop.format import keys
from modeldrop.format.channel import Channel
from modeldrop.format.deltas import (
    MAX_PIECE,
    MIN_FILE,
    BaseDeltas,
    DeltaIndex,
    FileDelta,
    delta_folder,
    delta_path,
    encode_piece,
    parse_delta_index,
    serialize_delta_index,
)
from modeldrop.format.manifest import PIECE_SIZE, File
from modeldrop.registry.publish import StagedVersion, create_own
from modeldrop.registry.versions import (
    Version,
    VersionListing,
    download_file,
    error_in_object,
    find_version,
    list_channels,
)
from modeldrop.storage.digests import describe_file
from modeldrop.storage.write.store import Store
from modeldrop.util.text import first_line, size_text

SCRATCH = ".modeldrop-deltas"
"""Where they may be beside a version's files: none of these can be called so."""
_WIDTHS = (1, 2, 4)
_WORTH_PLANES = 1.05
_SAMPLES = 8
_THREADS = min(4, os.cpu_count() or 1)
_DELETING = 8


@dataclass(frozen=True, slots=True)
class WantedDeltas:
    """From what deltas are wanted.

    Attributes:
        count: how many of the versions that channels name may be bases; 0 for none.
        channel: the channel that is to name the new version, whose present one comes first.
    """

    count: int
    channel: str


def _nothing(_done: int, _total: int) -> None:
    pass


@dataclass(slots=True)
class _Work:
    """A base, and the files of the new version that may be made of its own."""

    base: Version
    pairs: tuple[tuple[File, File], ...]
    stores: list[StagedVersion] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes to be read for it."""
        return sum(old.size + new.size for old, new in self.pairs)


def add_deltas(
    staged: Sequence[StagedVersion],
    wanted: WantedDeltas,
    scratch: Path,
    progress: Callable[[int, int], None] = _nothing,
) -> list[str]:
    """Store deltas beside a build that is staged in some registries, from what each one's channels name.

    Args:
        staged: what ``stage_all`` gave: one build.
        wanted: from what they are wanted.
        scratch: a folder for files on their way, not there yet.
        progress: told bytes done and bytes in all.

    Returns:
        Why there are none, or fewer than there could be: a sentence each. Never raises for what is only about deltas.
    """
    manifest = staged[0].build.manifest
    if not wanted.count or manifest.piece_size > MAX_PIECE or all(one.size < MIN_FILE for one in manifest.files):
        return []
    try:
        scratch.mkdir(parents=True)
        return _add_deltas(staged, wanted, scratch, progress)
    except (ModeldropError, OSError) as error:
        return [_why(error)]
    except Exception as error:  # noqa: BLE001  a defect here must not become one of the publish
        return [f"{type(error).__name__}: {first_line(error)}"]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _add_deltas(
    staged: Sequence[StagedVersion], wanted: WantedDeltas, scratch: Path, progress: Callable[[int, int], None]
) -> list[str]:
    faults: list[str] = []
    works = _plan(staged, wanted, faults)
    total, done = sum(work.size for work in works.values()), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    found: dict[str, list[BaseDeltas]] = {one.store.url: [] for one in staged}
    for digest, work in works.items():
        folder = scratch / digest.removeprefix("sha256:")
        try:
            deltas = _make(work, folder, advance)
            for one in work.stores if deltas.files else ():
                _upload(one, deltas, folder)
                found[one.store.url].append(deltas)
        except (ModeldropError, OSError) as error:
            faults.append(f"from v{work.base.number}: {_why(error)}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for one in staged:
        if bases := found[one.store.url]:
            _write_index(one, bases)
    return faults


def _plan(staged: Sequence[StagedVersion], wanted: WantedDeltas, faults: list[str]) -> dict[str, _Work]:
    """What is to be read, by the bases' digests; a base that several registries have is read in the first one."""
    works: dict[str, _Work] = {}
    for one in staged:
        try:
            bases = _bases(one, wanted)
        except ModeldropError as error:
            faults.append(f"{one.store.url}: {_why(error)}")
            continue
        for base in bases:
            work = works.setdefault(base.digest, _Work(base, _pairs(base, one.build.manifest.files)))
            if work.pairs:
                work.stores.append(one)
    return {digest: work for digest, work in works.items() if work.pairs}


def _bases(staged: StagedVersion, wanted: WantedDeltas) -> list[Version]:
    """The versions that channels name: what the wanted channel does first, then what was moved to last."""
    channels = list_channels(staged.store, staged.model)

    def order(named: tuple[str, Channel]) -> tuple[bool, str]:
        return named[0] == wanted.channel, named[1].present.at

    moves = {
        channel.present.digest: channel.present for _, channel in sorted(channels.items(), key=order, reverse=True)
    }
    moves.pop(staged.build.digest, None)
    found = (find_version(staged.store, staged.model, move.version) for move in list(moves.values())[: wanted.count])
    return [version for version in found if version is not None and version.digest in moves]


def _pairs(base: Version, files: Iterable[File]) -> tuple[tuple[File, File], ...]:
    old = {file.path: file for file in base.manifest.files}
    return tuple(
        (old[file.path], file)
        for file in files
        if file.size >= MIN_FILE and file.path in old and old[file.path].sha256 != file.sha256
    )


def _make(work: _Work, folder: Path, advance: Callable[[int], None]) -> BaseDeltas:
    """The deltas from one base, as files below ``folder`` with the paths that they get below the version."""
    base, one, made = work.base, work.stores[0], []
    for old, new in work.pairs:
        local = folder / "base"
        local.parent.mkdir(parents=True, exist_ok=True)
        free, need = shutil.disk_usage(folder).free, old.size + new.size // 2
        if free < need:
            why = f"{folder.parent} has {size_text(free)} free; to make deltas takes {size_text(need)}."
            raise DiskError(why, "Set TMPDIR to a folder with more room.")
        download_file(one.store, keys.file(one.model, base.number, old.path), local, old, advance)
        stored = folder / delta_path(base.digest, new.path)
        stored.parent.mkdir(parents=True, exist_ok=True)
        delta = _encode(local, one.build.folder / new.path, new, one.build.manifest.piece_size, stored, folder, advance)
        if delta is not None:
            made.append(delta._replace(base_size=old.size, base_sha256=old.sha256))
        local.unlink()
    return BaseDeltas(base.digest, tuple(made))


def _encode(
    base: Path, path: Path, file: File, piece_size: int, target: Path, root: Path, advance: Callable[[int], None]
) -> FileDelta | None:
    """Write the delta of one file; None where it would save less than half of the file.

    The base's size and digest are left to the caller.
    """
    count = len(file.pieces)
    with base.open("rb") as old, path.open("rb") as new:

        def read(index: int) -> tuple[bytes, bytes]:
            start, size = index * piece_size, min(piece_size, file.size - index * piece_size)
            return os.pread(old.fileno(), size, start), os.pread(new.fileno(), size, start)

        samples = [read(index) for index in range(0, count, -(-count // _SAMPLES))]
        sizes = {width: sum(len(encode_piece(*one, width)) for one in samples) for width in _WIDTHS}
        width = min(sizes, key=lambda width: sizes[width] * (1 if width == 1 else _WORTH_PLANES))
        if sizes[width] > sum(len(piece) for _, piece in samples) // 2:
            advance(file.size)
            return None
        lengths: list[int] = []
        with target.open("wb") as out, ThreadPoolExecutor(_THREADS, "modeldrop-deltas") as pool:
            for first in range(0, count, 4 * _THREADS):  # so that few pieces are in memory
                batch = range(first, min(count, first + 4 * _THREADS))
                for piece in pool.map(lambda index: encode_piece(*read(index), width), batch):
                    out.write(piece)
                    lengths.append(len(piece))
                    advance(min(piece_size, file.size - (len(lengths) - 1) * piece_size))
    if sum(lengths) > file.size // 2:
        return None
    return FileDelta(
        path=file.path,
        base_size=0,
        base_sha256="",
        stored=describe_file(root, target),
        lengths=tuple(lengths),
        width=width,
    )


def _upload(staged: StagedVersion, deltas: BaseDeltas, folder: Path, piece_size: int = PIECE_SIZE) -> None:
    for delta in deltas.files:
        key = keys.file(staged.model, staged.number, delta.stored.path)
        staged.store.upload(key, folder / delta.stored.path, delta.stored, piece_size, lambda _: None)


def _write_index(staged: StagedVersion, bases: Sequence[BaseDeltas], piece_size: int = PIECE_SIZE) -> None:
    data = serialize_delta_index(DeltaIndex(tuple(bases), piece_size))
    create_own(staged.store, keys.delta_index(staged.model, staged.number), data)


def copy_deltas(source: Store, version: Version, staged: StagedVersion, scratch: Path) -> list[str]:
    """Carry over the deltas of a version that is being copied, from the bases that the other registry has, too.

    Args:
        source: the registry that has the version.
        version: the version there.
        staged: its copy, staged.
        scratch: a folder for files on their way, not there yet.

    Returns:
        Why some were not carried over, a sentence each. Never raises for what is only about deltas.
    """
    try:
        index = read_delta_index(source, staged.model, version.number)
        if index is None:
            return []
        scratch.mkdir(parents=True)
        there = _digests(staged.store, staged.model)
        bases = [base for base in index.bases if base.manifest in there and base.files]
        for deltas in bases:
            for delta in deltas.files:
                path = scratch / delta.stored.path
                path.parent.mkdir(parents=True, exist_ok=True)
                key = keys.file(staged.model, version.number, delta.stored.path)
                download_file(source, key, path, delta.stored, lambda _: None)
            _upload(staged, deltas, scratch, index.piece_size)
        if bases:
            _write_index(staged, bases, index.piece_size)
    except (ModeldropError, OSError) as error:
        return [_why(error)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return []


def _digests(store: Store, model: str) -> set[str]:
    """Digests of the versions that channels name or have named, and that are there."""
    moves = {move.digest: move.version for channel in list_channels(store, model).values() for move in channel.moves()}
    versions = {number: find_version(store, model, number) for number in set(moves.values())}
    return {version.digest for version in versions.values() if version is not None} & moves.keys()


def read_delta_index(store: Store, model: str, number: int) -> DeltaIndex | None:
    """The index of a version's deltas; None if it has none.

    Raises:
        FormatError: it was changed by hand or damaged.
    """
    key = keys.delta_index(model, number)
    stored = store.get(key)
    if stored is None:
        return None
    try:
        return parse_delta_index(stored.data)
    except FormatError as error:
        raise error_in_object(error, store, key) from None


def forget_base(store: Store, model: str, digest: str, folders: Iterable[VersionListing]) -> None:
    """Remove the deltas from a version that is being pruned: nobody gets it any more.

    First from the indexes, by compare-and-swap, for two prunes may do so at once; then the deltas. If this is killed in
    between, the next prune does it again.

    Args:
        store: the registry.
        model: the model.
        digest: of the manifest of the version that is being pruned.
        folders: the model's versions, as a listing shows them.

    Raises:
        RegistryError: the registry cannot be written.
    """
    below = f"{delta_folder(digest)}/"
    doomed = []
    for folder in folders:
        paths = [path for path in folder.objects if path.startswith(below)]
        if paths:
            _forget_in_index(store, keys.delta_index(model, folder.number), digest)
            doomed += [keys.file(model, folder.number, path) for path in paths]
    with ThreadPoolExecutor(_DELETING) as pool:
        for _ in pool.map(store.delete, doomed):
            pass


def _forget_in_index(store: Store, key: str, digest: str) -> None:
    while (stored := store.get(key)) is not None:
        try:
            index = parse_delta_index(stored.data)
        except FormatError:
            return  # readers do without it, and what it names may go
        left = tuple(base for base in index.bases if base.manifest != digest)
        if len(left) == len(index.bases):
            return
        with suppress(ConflictError):
            store.swap(key, serialize_delta_index(index._replace(bases=left)), stored.tag)
            return


def _why(error: BaseException) -> str:
    return error.message if isinstance(error, ModeldropError) else first_line(error)
