"""Building into a folder, once: a folder that holds the whole build of a recipe is kept as it is.

So a build that took an hour is not lost when only the upload fails: the same folder, named again, is uploaded.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, FormatError, UsageError
from modeldrop.export import pipeline
from modeldrop.format.manifest import Manifest, parse_manifest
from modeldrop.registry.provenance import provenance
from modeldrop.storage.write.conditional import require_conditions
from modeldrop.util.progress import Steps

if TYPE_CHECKING:
    from modeldrop.export.pipeline import Checked
    from modeldrop.export.request import BuildRequest
    from modeldrop.publishing.plan import Plan

_REGISTRY_FACTOR = 1.4
"""Bytes of a version against those of its source's weights, with some room."""


def build(plan: Plan, folder: Path, *, quiet: bool) -> Manifest:
    """Build what a plan asks for into ``folder``, after everything that can be refused before slow work.

    The folder is made, or replaced if it holds another build; if it holds the whole build of this recipe already, it
    is kept as it is, also where the wish is to build anew.

    Args:
        plan: what is wanted; no registry needs to lack it.
        folder: where to; its parents are made.
        quiet: no progress on standard error.

    Raises:
        UsageError: the folder holds something else.
        ModeldropError: see ``errors``: what cannot be built, does not pass its thresholds, or cannot be written.
    """
    present = _whole_build(folder, plan.request.key)
    if present is not None:
        check_stores(plan)
        with Steps(pipeline.STEPS + 1, quiet=quiet, done=pipeline.STEPS - 1) as steps:
            steps.start("build")
            steps.finish(f"kept as it is: {folder}")
        return present
    checked = pipeline.check(plan.request)
    check_stores(plan)
    return _export(checked, folder, steps=pipeline.STEPS + 1, quiet=quiet)


def build_folder(request: BuildRequest, folder: Path, *, force: bool, quiet: bool) -> tuple[Manifest, bool]:
    """Build into a folder that stays; return its manifest, and whether it was built now.

    Args:
        request: what to build.
        folder: where to; its parents are made.
        force: build even if it holds the whole build of this recipe.
        quiet: no progress on standard error.

    Raises:
        UsageError: the folder holds something else.
        ModeldropError: see ``errors``: what cannot be built or does not pass its thresholds.
    """
    present = _whole_build(folder, request.key)
    if present is not None and not force:
        return present, False
    return _export(pipeline.check(request), folder, steps=pipeline.STEPS, quiet=quiet), True


def check_build_of(request: BuildRequest, folder: Path) -> Manifest:
    """The manifest of a folder that must hold the whole build of a request.

    Raises:
        UsageError: it does not.
    """
    manifest = _whole_build(folder, request.key)
    if manifest is None:
        raise UsageError(
            f"{folder} does not hold the whole build of this recipe and source.",
            "The source, the recipe or the folder has changed since it was built. Build again.",
        )
    return manifest


def check_stores(plan: Plan) -> None:
    """Refuse, before slow work, registries that could not be published to.

    Raises:
        RegistryError, DiskError: one cannot be written, or honours no conditional writes.
    """
    need = int(plan.request.source.weight_bytes() * _REGISTRY_FACTOR)
    for store in plan.stores:
        store.check_writable(need)
        require_conditions(store)


def _whole_build(folder: Path, key: str) -> Manifest | None:
    """The build of this key that the folder holds, None where there is none, or not all of it.

    Raises:
        UsageError: it holds something else, which must not be lost.
    """
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return None
        manifest = parse_manifest((folder / "manifest.json").read_bytes())
    except (OSError, FormatError):
        raise UsageError(
            f"{folder} is there and is not a build of modeldrop.",
            "Name a folder that is empty or not there yet.",
        ) from None
    return manifest if manifest.build_key == key and _is_whole(folder, manifest) else None


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    # By their sizes: the digests are checked by the upload.
    paths = [folder / file.path for file in manifest.files]
    return (folder / "report.html").is_file() and all(
        path.is_file() and path.stat().st_size == file.size for path, file in zip(paths, manifest.files, strict=True)
    )


def _export(checked: Checked, folder: Path, *, steps: int, quiet: bool) -> Manifest:
    fresh = folder.with_name(f".{folder.name}.new-{secrets.token_hex(4)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Steps(steps, quiet=quiet) as progress:
            manifest = pipeline.build(checked, fresh, provenance(), progress)
        _replace(folder, fresh)
    except OSError as error:
        raise DiskError(f"Could not write {folder}: {error.strerror or error}.", "Name another folder.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _replace(folder: Path, fresh: Path) -> None:
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old-{secrets.token_hex(4)}")
        folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old)
    else:
        fresh.rename(folder)
