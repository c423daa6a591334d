"""Fetching: from a reference to a snapshot on the local disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.config import default_registry
from modeldrop.errors import DiskError, FormatError, IntegrityError, NotFoundError
from modeldrop.format import channel as channels
from modeldrop.format import manifest as manifests
from modeldrop.format.records import find_seal
from modeldrop.format.reference import Reference, parse_reference
from modeldrop.runtime.home import Held, ModelHome
from modeldrop.runtime.registry import RegistryReader
from modeldrop.runtime.snapshot import Snapshot
from modeldrop.runtime.variants import AUTO, choose_variant

if TYPE_CHECKING:
    from collections.abc import Callable


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
        reference = parse_reference(reference, default_registry())
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
    try:
        found = _obtain(reference, reader, home, number, digest, variant, progress)
    except NotFoundError:
        if reference.channel is None:
            raise
        # The version may have been pruned since the channel was read: what does it name now?
        number, digest, generation = _aim(reference, reader)
        found = _obtain(reference, reader, home, number, digest, variant, progress)
    if reference.channel is not None:
        home.link(reference.channel if variant == AUTO else f"{reference.channel}-{variant}", found.path)
    return Snapshot(
        found.path,
        reference.model,
        number,
        found.variant,
        found.digest,
        reader.url,
        reference.channel,
        generation,
        found.downloaded,
    )


def _find(home: ModelHome, number: int, digest: str | None, variant: str) -> Held | None:
    """The snapshot that is there already."""
    held = home.find(number, digest, None if variant == AUTO else variant)
    if held is not None and variant == AUTO:
        best = choose_variant(held.manifest, AUTO).name
        if best != held.variant:
            return home.find(number, digest, best)
    return held


def _obtain(
    reference: Reference,
    reader: RegistryReader,
    home: ModelHome,
    number: int,
    digest: str | None,
    variant: str,
    progress: Callable[[int, int], None],
) -> Held:
    """The snapshot that is there; else read the manifest, and download the variant it offers."""
    held = _find(home, number, digest, variant)
    if held is not None:
        return held
    from modeldrop.runtime.download import download  # what is there already is found without all that it needs

    data = _read_manifest(reference, reader, number, digest)
    try:
        manifest = manifests.parse_manifest(data)
    except FormatError as error:
        raise _located(error, f"{reader.url}/{reference.model}/v{number}/manifest.json") from None
    chosen = choose_variant(manifest, variant)
    path = download(reader, home, f"{reference.model}/v{number}", number, data, manifest, chosen, progress)
    return Held(path, manifest, manifests.manifest_digest(data), chosen.name, manifest.size_of(chosen))


def _aim(reference: Reference, reader: RegistryReader) -> tuple[int, str | None, int | None]:
    """Number, promised manifest digest and channel generation that a reference means now."""
    if reference.version is not None:
        return reference.version, reference.digest, None
    key = f"{reference.model}/{reference.channel}"
    data = reader.get(key, channels.MAX_BYTES)
    if data is None:
        raise NotFoundError(
            f"{reader.url} has no channel {key}.",
            f"The model or the channel is misspelt, or nothing was published there yet: modeldrop ls {reader.url}",
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
    seal = None if digest == found else find_seal(data)
    if seal is not None:
        raise NotFoundError(
            f"v{number} of {reader.url}/{reference.model} was pruned on {seal.at[:10]}.",
            f"Fetch another version, or publish it again. See what there is: modeldrop ls "
            f"{reader.url}/{reference.model}",
        )
    if digest is not None and found != digest:
        raise IntegrityError(
            f"{reader.url}/{key} has the digest {found}, not {digest} as promised.",
            "It was changed after it was published. Restore it, or promote another version; "
            "the snapshot in use is untouched.",
        )
    return data


def _located(error: FormatError, where: str) -> FormatError:
    return FormatError(
        f"{where}: {error.message}",
        error.hint or "It was changed by hand or damaged; the snapshot in use is untouched. Promote another version.",
    )


def _default_home() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "modeldrop")  # noqa: PTH118
