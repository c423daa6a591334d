"""Downloading a variant: put together in its staging folder, verified, synced, then given its final name."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING

from modeldrop.fetcher.download.reuse import reuse
from modeldrop.fetcher.download.room import Room
from modeldrop.fetcher.download.staging import claims
from modeldrop.fetcher.download.transfer import transfer
from modeldrop.fetcher.download.volume import check_volume
from modeldrop.fetcher.helper import HelperReader
from modeldrop.fetcher.home import is_finished_snapshot
from modeldrop.fetcher.layout import RENAMES_FILE, renames_file
from modeldrop.fetcher.options import DEFAULT_KEEP
from modeldrop.fetcher.snapshot import MANIFEST, LocalSnapshot, TransferStats
from modeldrop.fetcher.triton import configs
from modeldrop.format.manifest import manifest_digest
from modeldrop.util.files import write_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from modeldrop.fetcher.download.staging import StagingClaim
    from modeldrop.fetcher.home import ModelHome
    from modeldrop.format.manifest import File, Manifest, Variant
    from modeldrop.storage.read.interface import RegistryReader
    from modeldrop.util.retry import Deadline


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
    deadline: Deadline,
    progress: Callable[[int, int], object],
) -> tuple[LocalSnapshot, TransferStats]:
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
        deadline: of the whole command.
        progress: told bytes done and bytes in all.

    Returns:
        The snapshot, and what it took.

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
    notes = {MANIFEST: data} | ({RENAMES_FILE: renames_file(renamed)} if renamed else {})
    if renamed:
        notes |= configs(variant, renamed)
    total = manifest.size_of(variant)
    stats = TransferStats()
    move = reader.transfer if isinstance(reader, HelperReader) else functools.partial(transfer, reader)

    def is_finished() -> bool:
        return is_finished_snapshot(target)

    room = Room(home, staging, prefix, keep)

    def bring() -> None:
        nonlocal stats
        home.create(reader.url)
        home.sweep(time.time())
        check_volume(staging.parent, files)
        for claim in claims(staging, is_finished, deadline):
            with _cleaned(home, staging, is_finished), claim:
                advance = _advance(claim, total, progress)
                linked, copied = reuse(home.path, files, manifest.piece_size, claim.path, advance)
                missing = [file for file in files if file.path not in linked]
                room.check(_bytes_to_write(claim.path, missing))
                moved = move(
                    prefix,
                    missing,
                    manifest.piece_size,
                    claim.path,
                    deadline=deadline,
                    progress=advance,
                    published={new: old for old, new in renamed.items()},
                    unfinished=staging,
                )
                for name, content in notes.items():
                    (claim.path / name).unlink(missing_ok=True)  # a killed attempt's, perhaps half of it
                    write_new(claim.path / name, content, 0o444)
                copied = min(copied, moved.adopted)
                # What another process finished after all was brought in vain, and counts too.
                fetched, retries = stats.fetched + moved.fetched, stats.retries + moved.retries
                stats = TransferStats(fetched=fetched, retries=retries)
                if home.finish(claim, target, {*notes, *(file.path for file in files)}, deadline):
                    stats = stats._replace(
                        adopted=moved.adopted - copied,
                        linked=sum(file.size for file in files if file.path in linked) + copied,
                    )
                    break

    room.retry(bring)
    return LocalSnapshot(target, manifest), stats


def _advance(claim: StagingClaim, total: int, progress: Callable[[int, int], object]) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        claim.touch()
        progress(max(0, min(done, total)), total)

    return advance


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
