"""Fetching: from a reference to a snapshot on the local disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, FormatError, IntegrityError, NotFoundError
from modeldrop.format import channel as channels
from modeldrop.format import manifest as manifests
from modeldrop.format.reference import Reference, parse_reference
from modeldrop.runtime.home import ModelHome
from modeldrop.runtime.registry import RegistryReader
from modeldrop.runtime.snapshot import MANIFEST, Snapshot
from modeldrop.runtime.transfer import transfer
from modeldrop.runtime.variants import AUTO, choose_variant

if TYPE_CHECKING:
    from collections.abc import Callable

_DISK_RESERVE = 16 << 20


def fetch(
    reference: str | Reference,
    directory: str | os.PathLike[str] | None = None,
    *,
    variant: str = AUTO,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Snapshot:
    """Make sure that a version is on the local disk, complete and verified; return its snapshot.

    Args:
        reference: what to fetch, such as ``s3://acme-models/embedder``, ``./models/embedder@v3`` or
            ``embedder@staging``; a bare name lives in ``MODELDROP_REGISTRY``.
        directory: the home, where snapshots are kept; default ``MODELDROP_HOME``, else
            ``~/.cache/modeldrop``.
        variant: the variant's name; ``auto`` takes int8 where there is one.
        progress: told bytes done and bytes in all while files arrive.

    Raises:
        UsageError: the reference cannot be one, or the home holds this model from another registry.
        NotFoundError: the registry has no such model, channel or version.
        VariantError: the version has no such variant.
        FormatError, IntegrityError: what the registry holds is damaged or was changed.
        RegistryError: the registry cannot be read.
        DiskError: the home cannot be written, or is full.
    """
    if isinstance(reference, str):
        reference = parse_reference(reference, os.environ.get("MODELDROP_REGISTRY", ""))
    home = Path(directory or os.environ.get("MODELDROP_HOME") or _default_home()).expanduser().absolute()
    reader = RegistryReader(reference.registry)
    try:
        return _fetch(reference, reader, ModelHome(home, reference.model), variant, progress)
    except OSError as error:
        raise DiskError(
            f"Could not write into {home}: {error.strerror or error}.",
            "Name a folder that this user may write and that has room (-d or MODELDROP_HOME); "
            "the snapshot in use is untouched.",
        ) from error


def _fetch(
    reference: Reference,
    reader: RegistryReader,
    home: ModelHome,
    variant: str,
    progress: Callable[[int, int], None],
) -> Snapshot:
    home.belongs_to(reader.url)
    number, digest, generation = _aim(reference, reader)
    downloaded = 0
    found = home.find(number, digest, None if variant == AUTO else variant)
    if found is not None and variant == AUTO and choose_variant(found[1], AUTO).name != found[3]:
        found = home.find(number, digest, choose_variant(found[1], AUTO).name)
    if found is not None:
        path, _, digest, held = found
    else:
        data = _read_manifest(reference, reader, number, digest)
        digest = manifests.manifest_digest(data)
        try:
            manifest = manifests.parse_manifest(data)
        except FormatError as error:
            raise _located(error, f"{reader.url}/{reference.model}/v{number}/manifest.json") from None
        chosen = choose_variant(manifest, variant)
        held, downloaded = chosen.name, manifest.size_of(chosen)
        path = _download(reference, reader, home, number, data, manifest, chosen, progress)
    if reference.channel is not None:
        home.link(reference.channel if variant == AUTO else f"{reference.channel}-{variant}", path)
    return Snapshot(
        path, reference.model, number, held, digest, reader.url, reference.channel, generation, downloaded
    )


def _aim(reference: Reference, reader: RegistryReader) -> tuple[int, str | None, int | None]:
    """Number, promised manifest digest and channel generation that a reference means now."""
    if reference.version is not None:
        return reference.version, reference.digest, None
    key = f"{reference.model}/{reference.channel}"
    data = reader.get(key, channels.MAX_BYTES)
    if data is None:
        raise NotFoundError(
            f"{reader.url} has no channel {key}.",
            "The model or the channel is misspelt, or nothing was published there yet: "
            f"modeldrop ls {reader.url}",
        )
    try:
        channel = channels.parse_channel(data)
    except FormatError as error:
        raise _located(error, f"{reader.url}/{key}") from None
    move = channel.present
    if reference.digest is not None and reference.digest != move.digest:
        older = channel.find_digest(reference.digest)
        if older is None:
            raise NotFoundError(
                f"{reader.url}/{key} has never named {reference.digest}.",
                f"Name its version too: {reference.model}@vN@{reference.digest[:19]}…",
            )
        move = older
    return move.version, move.digest, channel.generation


def _read_manifest(reference: Reference, reader: RegistryReader, number: int, digest: str | None) -> bytes:
    key = f"{reference.model}/v{number}/manifest.json"
    data = reader.get(key, manifests.MAX_BYTES)
    if data is None:
        raise NotFoundError(
            f"{reader.url}/{reference.model} has no version v{number}.",
            f"See what there is: modeldrop ls {reader.url}/{reference.model}",
        )
    found = manifests.manifest_digest(data)
    if digest is not None and found != digest:
        raise IntegrityError(
            f"{reader.url}/{key} has the digest {found}, not {digest} as promised.",
            "It was changed after it was published. Restore it, or promote another version; "
            "the snapshot in use is untouched.",
        )
    return data


def _download(
    reference: Reference,
    reader: RegistryReader,
    home: ModelHome,
    number: int,
    data: bytes,
    manifest: manifests.Manifest,
    chosen: manifests.Variant,
    progress: Callable[[int, int], None],
) -> Path:
    total = manifest.size_of(chosen)
    home.prepare(reader.url)
    free = shutil.disk_usage(home.path).free
    if free < total + _DISK_RESERVE:
        raise DiskError(
            f"{home.path} has {free / 1e6:.0f} MB free; {reference} needs {total / 1e6:.0f} MB.",
            "Free some space, or name another folder (-d); the snapshot in use is untouched.",
        )
    wanted = set(chosen.files)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    with home.staging() as staged:
        files = [file for file in manifest.files if file.path in wanted]
        transfer(reader, f"{reference.model}/v{number}", files, manifest.piece_size, staged, advance)
        note = staged / MANIFEST
        note.write_bytes(data)
        note.chmod(0o444)
        with note.open("rb") as file:
            os.fsync(file.fileno())
        return home.finish(staged, number, chosen.name, manifests.manifest_digest(data))


def _located(error: FormatError, where: str) -> FormatError:
    return FormatError(
        f"{where}: {error.message}",
        error.hint
        or "It was changed by hand or damaged; the snapshot in use is untouched. Promote another version.",
    )


def _default_home() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "modeldrop")  # noqa: PTH118
