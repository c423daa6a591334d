"""Copying a version from one registry to others, with progress: for mirror, and for publish where one lags behind."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError
from modeldrop.registry.replicate import mirror
from modeldrop.storage.write.conditional import require_conditions
from modeldrop.util.progress import Steps
from modeldrop.util.text import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.registry.publish import Published
    from modeldrop.registry.versions import Version
    from modeldrop.storage.write.store import Store


def copy(
    source: Store, version: Version, model: str, targets: list[Store], folder: Path, *, quiet: bool
) -> list[Published]:
    """Copy a version, byte for byte, to registries that promise what a registry must.

    Args:
        source: the registry that has it.
        version: the version.
        model: the model's name.
        targets: the registries that are to have it.
        folder: where its files come by, not there yet; whether they did is left open.
        quiet: no progress on standard error.

    Raises:
        IntegrityError, NotFoundError: the version is damaged.
        RegistryError, DiskError: one of the places cannot be read or written.
    """
    size = sum(file.size for file in version.manifest.files)
    for target in targets:
        target.check_writable(size)
        require_conditions(target)
    done = 0
    with Steps(1, quiet=quiet) as steps:

        def progress(count: int) -> None:
            nonlocal done
            done += count
            steps.update(done, size * (len(targets) + 1))

        steps.start("mirror")
        published = mirror(source, model, version, targets, folder, progress)
        steps.finish(f"v{version.number} of {source.url}, {len(version.manifest.files)} files, {size_text(size)}")
    return published


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for large files.

    Raises:
        DiskError: there is none.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="modeldrop-")
    except OSError as error:
        raise DiskError(
            f"There is no folder to build in: {error.strerror or error}.", "Set TMPDIR to a folder with room."
        ) from error
    with folder as path:
        yield Path(path)
