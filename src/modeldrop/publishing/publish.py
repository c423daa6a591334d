"""Build and deliver in one go, and keep what was built if only the delivery fails."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import AcceptanceError, DiskError, ModeldropError
from modeldrop.publishing.deliver import deliver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.publishing.deliver import Outcome
    from modeldrop.publishing.plan import Plan


def publish(plan: Plan, build_folder: Path | None, *, quiet: bool) -> list[Outcome]:
    """Build what no registry has, and deliver.

    Args:
        plan: what is wanted, and what is there.
        build_folder: where to build, and where an earlier build may be; None for a temporary folder, which stays
            where the delivery fails, as the error says.
        quiet: no progress on standard error.

    Raises:
        ModeldropError: see ``build`` and ``deliver``.
    """
    if not plan.would_build:
        return deliver(plan, None, quiet=quiet)
    from modeldrop.publishing.build import build  # an unchanged recipe never needs it

    if build_folder is not None:
        build(plan, build_folder, quiet=quiet)
        return deliver(plan, build_folder, quiet=quiet)
    with _scratch() as scratch:
        build(plan, scratch / "build", quiet=quiet)
        with _kept(scratch):
            return deliver(plan, scratch / "build", quiet=quiet)


class _KeptError(Exception):
    """The folder is to stay."""

    def __init__(self, error: ModeldropError) -> None:
        super().__init__(error.message)
        self.error = error


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder that goes, unless what is in it was kept.

    Raises:
        DiskError: there is none.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="modeldrop-"))
    except OSError as error:
        raise DiskError(
            f"There is no folder to build in: {error.strerror or error}.", "Set TMPDIR to a folder with room."
        ) from error
    try:
        yield folder
    except _KeptError as kept:
        raise kept.error from kept.error.__cause__
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _kept(scratch: Path) -> Iterator[None]:
    try:
        yield
    except AcceptanceError:
        raise  # it is published
    except ModeldropError as error:
        more = f"What was built is kept. To go on without building again, add --build-dir {scratch / 'build'}"
        error.hint = f"{error.hint}\n  {more}" if error.hint else more
        raise _KeptError(error) from error
