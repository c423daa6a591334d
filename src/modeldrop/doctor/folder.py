"""What doctor checks of a folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.doctor.checks import (
    EXPOSURE,
    SIGNED_IN,
    SPACE,
    CheckResult,
    FirstResponse,
    Stage,
    no_answer,
    ok,
    warning,
)
from modeldrop.doctor.policies import AccessPolicies
from modeldrop.errors import RegistryError

if TYPE_CHECKING:
    from modeldrop.storage.write.store import Store

_LITTLE_BYTES = 1_000_000_000


class FolderProbe:
    """See ``Probe``."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # What a folder refuses, its error explains.
        self.policies = AccessPolicies(publisher="", fetcher="", prune="", doctor="")
        self._folder = Path(store.url)
        self._made = False

    def first_request(self) -> FirstResponse:
        try:
            if self._folder.is_dir():
                os.listdir(self._folder)  # noqa: PTH208  an error of its own is wanted here
                return FirstResponse(Stage.ANSWERED, "the folder is there")
            if not self._folder.exists():
                self._made = True
                return FirstResponse(Stage.ANSWERED, "the folder is not there yet; the first publish makes it")
            error = RegistryError(f"{self._folder} is not a folder.", "Check the path.")
        except OSError as caught:
            hint = f"Give this user (uid {os.geteuid()}) the right to read it, or check the mount."
            error = RegistryError(f"Could not list {self._folder}: {caught.strerror or caught}.", hint)
        return FirstResponse(Stage.NOT_REACHED, str(self._folder), error=error)

    def identity(self) -> CheckResult:
        uid = os.geteuid()
        try:
            return ok(SIGNED_IN, f"{pwd.getpwuid(uid).pw_name} (uid {uid})")
        except KeyError:
            return ok(SIGNED_IN, f"uid {uid}")

    def bucket_checks(self) -> list[CheckResult]:
        return [self._exposure(), self._space()]

    def cleanup(self) -> None:
        scratch = self._folder / ".doctor"
        for folder in (scratch / ".tmp", scratch / ".moves", scratch, *((self._folder,) if self._made else ())):
            with contextlib.suppress(OSError):  # another doctor may be using it
                folder.rmdir()

    def _exposure(self) -> CheckResult:
        try:
            mode = self._folder.stat().st_mode
        except FileNotFoundError:
            return ok(EXPOSURE, "the folder is not there yet")
        except OSError as error:
            return no_answer(EXPOSURE, error)
        if mode & stat.S_IWOTH:
            text = f"every user of this machine may write {self._folder}"
            return warning(EXPOSURE, text, f"chmod o-w {self._folder}")
        who = "every user of this machine" if mode & stat.S_IROTH else "its owner and group"
        return ok(EXPOSURE, f"{who} may read it, not every user write")

    def _space(self) -> CheckResult:
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        try:
            free = shutil.disk_usage(there).free
        except OSError as error:
            return no_answer(SPACE, error)
        text = f"{free / 1e9:.1f} GB free"
        if free < _LITTLE_BYTES:
            return warning(SPACE, text, "Free some space: a version with its variants often has more.")
        return ok(SPACE, text)
