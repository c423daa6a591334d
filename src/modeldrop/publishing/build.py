"""Build into a folder. A folder that holds the whole build of a recipe already is kept as it is.

So a build that took an hour is not lost if only the upload fails: the same folder, named again, is uploaded.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from modeldrop.errors import DiskError, FormatError, UsageError
from modeldrop.export import pipeline
from modeldrop.export.pipeline import CheckedRequest
from modeldrop.export.request import BuildRequest
from modeldrop.publishing.plan import Plan
from modeldrop.registry.provenance import provenance
from modeldrop.registry.publish import Build, read_build
from modeldrop.registry.replicate import check_targets
from modeldrop.util.files import NAME_TAKEN
from modeldrop.util.progress import Steps

_TRIES = 5
_REGISTRY_FACTOR = 1.4
"""Bytes of a version against those of its source's weights, with some room."""


def find_whole_build(request: BuildRequest, folder: Path) -> Build | None:
    """The build of a request that a folder holds; None if it holds none, not all of it, or another build.

    Raises:
        UsageError: the folder holds something that is no build, which must not be lost.
    """
    for left in reversed(range(_TRIES)):
        try:
            if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
                return None
            build = read_build(folder)
            break
        except (OSError, FormatError) as error:
            if left and isinstance(error, FileNotFoundError):
                continue  # another process may just be putting its own there
            raise UsageError(
                f"{folder} is there and is not a build of modeldrop.",
                "Name a folder that is empty or does not exist yet.",
            ) from None
    return build if build.manifest.build_key == request.key and _is_whole(build) else None


def require_whole_build(request: BuildRequest, folder: Path) -> Build:
    """The build of a request, in a folder that must hold it.

    Raises:
        UsageError: it does not.
    """
    build = find_whole_build(request, folder)
    if build is None:
        raise UsageError(
            f"{folder} does not hold the whole build of this recipe and source.",
            "The source, the recipe or the folder has changed since it was built. Build again.",
        )
    return build


def preflight(plan: Plan, folder: Path) -> Build | CheckedRequest:
    """Refuse, before slow work, what cannot be built or published.

    Returns:
        The whole build that the folder holds already, also with ``force``; else what is to be built.

    Raises:
        UsageError: the folder holds something that is no build.
        RegistryError, DiskError: a registry cannot be written, or does not honour conditional writes.
        ModeldropError: see ``errors``: what cannot be built.
    """
    present = find_whole_build(plan.build_request, folder)
    checked = present or pipeline.check_request(plan.build_request)
    check_stores(plan)
    return checked


def build_or_keep(checked: Build | CheckedRequest, folder: Path, *, quiet: bool) -> Build:
    """Build into ``folder`` what ``preflight`` has found possible; nothing if it has found the whole build there.

    Raises:
        ModeldropError: see ``export_into``.
    """
    if not isinstance(checked, Build):
        return export_into(checked, folder, quiet=quiet, more_steps=1)
    with Steps(pipeline.STEPS + 1, quiet=quiet, done=pipeline.STEPS - 1) as steps:
        steps.start("build")
        steps.finish(f"kept as it is: {folder}")
    return checked


def build_folder(request: BuildRequest, folder: Path, *, force: bool, quiet: bool) -> tuple[Build, bool]:
    """Build into a folder, without a registry; return the build, and whether it was built now.

    Args:
        request: what to build.
        folder: where to; its parents are made.
        force: build even if the folder holds the whole build of this recipe.
        quiet: no progress on standard error.

    Raises:
        UsageError: the folder holds something that is no build.
        ModeldropError: see ``errors``: what cannot be built or does not pass its thresholds.
    """
    present = find_whole_build(request, folder)
    if present is not None and not force:
        return present, False
    return export_into(pipeline.check_request(request), folder, quiet=quiet), True


def check_stores(plan: Plan) -> None:
    """Refuse registries that could not be published to.

    Raises:
        RegistryError, DiskError: one cannot be written, or does not honour conditional writes.
    """
    need = int(plan.build_request.source.weight_bytes() * _REGISTRY_FACTOR)
    check_targets(plan.stores, need)


def export_into(checked: CheckedRequest, folder: Path, *, quiet: bool, more_steps: int = 0) -> Build:
    """Build into ``folder``, which is made, or replaced if it holds another build.

    Args:
        checked: what ``export.pipeline.check_request`` has found possible.
        folder: where to; its parents are made.
        quiet: no progress on standard error.
        more_steps: how many steps of progress come after these.

    Raises:
        ModeldropError: see ``errors``: what cannot be built, does not pass its thresholds, or cannot be written.
    """
    fresh = folder.with_name(f".{folder.name}.new-{secrets.token_hex(4)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Steps(pipeline.STEPS + more_steps, quiet=quiet) as progress:
            manifest = pipeline.build(checked, fresh, provenance(), progress)
        _replace_folder(folder, fresh)
        return Build(folder, manifest, (folder / "manifest.json").read_bytes())
    except OSError as error:
        raise DiskError(f"Could not write {folder}: {error.strerror or error}.", "Name another folder.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _is_whole(build: Build) -> bool:
    # By their sizes: the digests are checked by the upload.
    files = build.manifest.files
    paths = [build.folder / file.path for file in files]
    return (build.folder / "report.html").is_file() and all(
        path.is_file() and path.stat().st_size == file.size for path, file in zip(paths, files, strict=True)
    )


def _replace_folder(folder: Path, fresh: Path) -> None:
    """Give a folder its name, and remove what has had it; another process may do the same with its own.

    Raises:
        OSError: it cannot be done.
    """
    for left in reversed(range(_TRIES)):
        old = folder.with_name(f".{folder.name}.old-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        try:
            fresh.rename(folder)
            return
        except OSError as error:
            if error.errno not in NAME_TAKEN or not left:
                with contextlib.suppress(OSError):
                    old.rename(folder)  # what was there is not lost
                raise
            # The other process was faster: its build is replaced next.
        finally:
            shutil.rmtree(old, ignore_errors=True)
