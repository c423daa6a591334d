"""Fetching: from a reference to a snapshot on the local disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.config import default_registry, home_folder
from modeldrop.errors import DiskError
from modeldrop.fetcher.fetch import Fetcher
from modeldrop.fetcher.options import Options, overridden
from modeldrop.format.reference import Reference, parse_reference

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.fetcher.snapshot import Snapshot


def fetch(
    reference: str | Reference,
    directory: str | os.PathLike[str] | None = None,
    *,
    options: Options | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    **overrides: Any,
) -> Snapshot:
    """Make sure that a version is on the local disk, complete and verified; return its snapshot.

    Args:
        reference: what to fetch, such as ``s3://acme-models/embedder``, ``./models/embedder@v3`` or
            ``embedder@staging``; a bare name lives in ``MODELDROP_REGISTRY``.
        directory: the home, where snapshots are kept; default ``MODELDROP_HOME``, else
            ``~/.cache/modeldrop``.
        options: how; see ``Options``.
        progress: told bytes done and bytes in all while files arrive.
        overrides: fields of ``Options`` by name, such as ``variant="fp32"``.

    Raises:
        UsageError: the reference cannot be one, or the home holds this model from another registry.
        NotFoundError: the registry has no such model, channel or version, nor this disk a good one.
        VariantError: the version has no such variant, or none that this machine can run.
        FormatError, IntegrityError: what the registry holds is damaged or was changed.
        RegistryError: the registry cannot be read, and there is no last good snapshot that would do.
        RefusedError: the channel's generation is below ``min_generation``.
        MissingExtraError: what was asked for needs a package that is not installed.
        DiskError: the home cannot be written, or is full.
    """
    options = overridden(options, overrides, "fetch")
    if isinstance(reference, str):
        reference = parse_reference(reference, default_registry())
    home = home_folder(directory)
    try:
        return Fetcher(reference, home, options, progress).fetch()
    except OSError as error:
        raise unwritable(home, error) from error


def unwritable(home: Path, error: OSError) -> DiskError:
    """The error for a home that cannot be used."""
    return DiskError(
        f"Could not write into {home}: {error.strerror or error}.",
        "Name a folder that this user may write and that has room (-d or MODELDROP_HOME); "
        "the snapshot in use is untouched.",
    )
