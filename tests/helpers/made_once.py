"""What is slow to make, made once for all processes that run tests."""

from __future__ import annotations

import fcntl
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def made_once(factory: pytest.TempPathFactory, worker: str, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` fills, unless another worker of this run has done so. Nobody writes into it then.

    Args:
        factory: gives each worker of pytest-xdist a folder of its own, all in one.
        worker: the name of this worker; ``master`` where there are none.
        name: what the folder is called.
        make: gets the folder, which is empty.
    """
    own = factory.getbasetemp()
    common = (own if worker == "master" else own.parent) / "made once"
    common.mkdir(exist_ok=True)
    folder, done = common / name, common / f"{name}.done"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
