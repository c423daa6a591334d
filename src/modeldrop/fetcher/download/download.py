"""Downloading a variant: put together in its staging folder, verified, synced, then given its final name."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING

from modeldrop.fetcher.download.deltas import DeltaSource, RebuiltFiles, discard_deltas, make_of_deltas
from modeldrop.fetcher.download.reuse import reuse
from modeldrop.fetcher.download.room import Room
from modeldrop.fetcher.download.staging import claims
from modeldrop.fetcher.download.transfer import transfer
from modeldrop.fetcher.download.volume import check_volume
from modeldrop.fetcher.helper import HelperReader
from modeldrop.fetcher.home import is_finished_snapshot
from modeldrop.fetcher.layout import RENAMES_FILE, renames_file
from modeldrop.fetcher.options import DEFAULT_KEEP
from modeldrop.fetcher.snapshot import MANIFEST_FILE, LocalSnapshot, TransferStats
from modeldrop.fetcher.triton import configs
from modeldrop.format.manifest import manifest_digest
from modeldrop.util.files import write_new
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from modeldrop.fetcher.download.staging import StagingClaim
    from modeldrop.fetcher.home import ModelHome
    from modeldrop.format.manifest import File, Manifest, Variant
    from modeldrop.storage.read.interface import RegistryReader
    from modeldrop.util.retry import Deadline


class DownloadResult(NamedTuple):
    """A snapshot that was brought.

    Attributes:
        snapshot: the snapshot, finished.
        stats: what it took.
        notes: what went another way than it should, a sentence each.
    """

    snapshot: LocalSnapshot
    stats: TransferStats
    notes: tuple[str, ...]


def download(  # noqa: PLR0913  what is known of a version, and how to bring it
    reader: RegistryReader | HelperReader,
    home: ModelHome,
    version: int,
    data: bytes,
    manifest: Manifest,
    variant: Variant,
    *,
    renamed: Mapping[str, str],
    keep: int = DEFAULT_KEEP,
    no_delta: bool = False,
    deadline: Deadline,
    progress: Callable[[int, int], object],
) -> DownloadResult:
    """Bring a variant's files into a finished snapshot.

    Whatever an earlier attempt or another snapshot has is used, once it has been verified. Of several processes that
    want the same, one works and the others wait for it; where locks do not work more than one may.

    Args:
        reader: the registry.
        home: the model's folder on this disk.
        version: the version's number.
        data: the manifest as it was read.
        manifest: the same, parsed.
        variant: the variant to bring.
        renamed: path in the version to path in the snapshot, for files that are to have another one.
        keep: how many snapshots of a model stay where room must be made, this one included.
        no_delta: fetch files whole, whatever deltas there may be.
        deadline: of the whole command.
        progress: told bytes done and bytes in all.

    Raises:
        DiskError: there is too little room, and none could be made.
        IntegrityError, RegistryError: see ``transfer``.
        OSError: the disk cannot be written.
    """
    digest = manifest_digest(data)
    target = home.folder(version, variant.name, digest, renamed)
    staging = home.staging_folder(variant.name, digest, renamed)
    prefix = f"{home.path.name}/v{version}"
    wanted = set(variant.files)
    files = [file._replace(path=renamed.get(file.path, file.path)) for file in manifest.files if file.path in wanted]
    notes = {MANIFEST_FILE: data} | ({RENAMES_FILE: renames_file(renamed)} if renamed else {})
    if renamed:
        notes |= configs(variant, renamed)
    total = manifest.size_of(variant)
    stats = TransferStats()
    warnings: tuple[str, ...] = ()
    published = {new: old for old, new in renamed.items()}

    def spend(more: TransferStats) -> None:
        nonlocal stats
        stats = stats.plus(more)  # also what came in vain: another process finished first, or took the folder over

    move = functools.partial(
        reader.transfer if isinstance(reader, HelperReader) else functools.partial(transfer, reader), spend=spend
    )
    source = DeltaSource(reader=reader, move=move, prefix=prefix, model_home=home.path, published=published)

    def is_finished() -> bool:
        return is_finished_snapshot(target)

    room = Room(home, staging, prefix, keep)

    def bring() -> None:
        nonlocal stats, warnings
        home.create(reader.url)
        home.sweep(time.time())
        check_volume(staging.parent, files)
        for claim in claims(staging, is_finished, deadline):
            with _cleaned(home, staging, is_finished), claim:
                advance = _Advance(claim, total, progress)
                linked, copied = reuse(home.path, files, manifest.piece_size, claim.path, advance.by)
                missing = [file for file in files if file.path not in linked]
                room.check(_bytes_to_write(claim.path, missing))
                made = RebuiltFiles()
                if not no_delta and "://" in reader.url:
                    made = make_of_deltas(
                        source,
                        missing,
                        manifest.piece_size,
                        claim.path,
                        has_room=room.has_besides,
                        deadline=deadline,
                        progress=advance.ahead,
                        unfinished=staging,
                    )
                discard_deltas(claim.path)  # a killed attempt's, too
                moved = move(
                    prefix,
                    missing,
                    manifest.piece_size,
                    claim.path,
                    deadline=deadline,
                    progress=advance.by,
                    published=published,
                    unfinished=staging,
                )
                for name, content in notes.items():
                    (claim.path / name).unlink(missing_ok=True)  # a killed attempt's, perhaps half of it
                    write_new(claim.path / name, content, 0o444)
                copied, warnings = min(copied, moved.adopted), made.notes
                if home.finish(claim, target, {*notes, *(file.path for file in files)}, deadline):
                    stats = stats._replace(
                        adopted=max(0, moved.adopted - copied - made.size),
                        linked=sum(file.size for file in files if file.path in linked) + copied,
                        saved=max(0, made.size - made.stats.fetched),
                    )
                    break

    while True:
        try:
            bring()
        except OSError as error:
            room.make_after(error)
        else:
            snapshot = LocalSnapshot(target, manifest)
            snapshot.manifest_bytes = data  # it may be gone already: whoever is about to use it finds that out
            return DownloadResult(snapshot, stats, warnings)


class _Advance:
    """Tells how far a download is; while it does, it shows those who wait that the work goes on."""

    def __init__(self, claim: StagingClaim, total: int, progress: Callable[[int, int], object]) -> None:
        self._claim = claim
        self._total = total
        self._progress = progress
        self._done = self._ahead = 0

    def by(self, count: int) -> None:
        """So many bytes more are there, or fewer."""
        again = min(self._ahead, max(0, count))  # told ahead
        self._ahead -= again
        self._done += count - again
        self._claim.touch()
        self._progress(max(0, min(self._done, self._total)), self._total)

    def ahead(self, count: int) -> None:
        """So many bytes are as good as there; they will be told once more, when they are verified."""
        self.by(count)
        self._ahead += count


@contextlib.contextmanager
def _cleaned(home: ModelHome, staging: Path, is_finished: Callable[[], bool]) -> Iterator[None]:
    """Remove what slower processes have in the staging folder, as soon as the snapshot is finished."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if staging.exists() and is_finished():
                home.discard(staging)


def _bytes_to_write(folder: Path, files: Sequence[File]) -> int:
    """What the disk must take for files of which the folder may hold some already."""
    needed = 0
    for file in files:
        there = 0
        with contextlib.suppress(OSError):
            there = (folder / file.path).stat().st_blocks * 512
        needed += max(0, file.size - there)
    return needed
