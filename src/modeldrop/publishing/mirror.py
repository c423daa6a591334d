"""Copy a version from one registry to others, with progress: for mirror, and for publish where a registry lacks it."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, ModeldropError
from modeldrop.registry.publish import MIRRORED, UNCHANGED, Published
from modeldrop.registry.replicate import check_targets, replicate
from modeldrop.util.progress import Steps
from modeldrop.util.text import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from modeldrop.publishing.plan import Plan
    from modeldrop.registry.versions import Version
    from modeldrop.storage.write.store import Store


def mirror_missing(plan: Plan, scratch: Path, *, quiet: bool) -> list[Published]:
    """Copy what a plan has found to the registries that lack it; the version in every registry.

    Args:
        plan: found in at least one registry.
        scratch: for the files on their way, not there yet.
        quiet: no progress on standard error.

    Raises:
        IntegrityError, NotFoundError: the version is damaged.
        RegistryError, DiskError: a registry cannot be read or written.
    """
    if plan.present is None:
        raise ValueError("no registry has what is to be mirrored")
    source, first = plan.present
    targets = plan.would_mirror
    copied = mirror_version(source, first, plan.request.model, targets, scratch, quiet=quiet) if targets else []
    copies = iter(copied)
    folder = next((one.folder for one in copied if one.folder is not None), None)
    return [
        replace(next(copies), how=MIRRORED, folder=folder)
        if version is None
        else Published(
            store=store, version=version, how=UNCHANGED, folder=folder if version.digest == first.digest else None
        )
        for store, version in plan.registries()
    ]


def mirror_version(
    source: Store, version: Version, model: str, targets: Sequence[Store], scratch: Path, *, quiet: bool
) -> list[Published]:
    """Copy a version, byte for byte, to registries that promise what a registry must.

    Args:
        source: the registry that has it.
        version: the version.
        model: the model's name.
        targets: the registries that are to have it.
        scratch: for the files on their way, not there yet.
        quiet: no progress on standard error.

    Raises:
        IntegrityError, NotFoundError: the version is damaged.
        RegistryError, DiskError: one of the places cannot be read or written.
    """
    size = sum(file.size for file in version.manifest.files)
    check_targets(targets, size)
    with Steps(1, quiet=quiet) as steps:
        steps.start("mirror")
        progress = counter(steps, size * (len(targets) + 1))
        published = replicate(source, model, version, targets, scratch, progress)
        warn_of_deltas(fault for one in published for fault in one.delta_faults)
        steps.finish(f"v{version.number} of {source.url}, {len(version.manifest.files)} files, {size_text(size)}")
    return published


def counter(steps: Steps, total: int) -> Callable[[int], None]:
    """A function that adds up bytes and shows their share of ``total`` as the progress of the open step."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        steps.update(done, total)

    return count


def warn_of_deltas(faults: Iterable[str]) -> None:
    """Say on standard error why a version has fewer deltas than it could have; it is whole without."""
    for fault in faults:
        print(f"modeldrop: warning: no deltas: {fault}", file=sys.stderr)  # noqa: T201


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder for large files, removed afterwards.

    A finished build in it (``build``) stays if publishing that fails, and the error says where it is.

    Raises:
        DiskError: there is no temporary folder.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="modeldrop-"))
    except OSError as error:
        raise DiskError(
            f"There is no folder to build in: {error.strerror or error}.", "Set TMPDIR to a folder with room."
        ) from error
    build, keep = folder / "build", False
    try:
        yield folder
    except ModeldropError as error:
        if build.exists():
            keep = True
            more = f"What was built is kept. To go on without building again, add --build-dir {build}"
            error.hint = f"{error.hint}\n  {more}" if error.hint else more
        raise
    finally:
        for path in folder.iterdir():
            if not (keep and path == build):
                shutil.rmtree(path, ignore_errors=True)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
