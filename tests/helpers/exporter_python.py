"""The exporter's interpreter for tests: its workers are forks of processes that have imported what they import."""

from __future__ import annotations

import fcntl
import functools
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from modeldrop.export.worker_process import worker_environment
from tests.helpers import forked_workers
from tests.helpers.rounds import TEST_ROUNDS


def exporter_python(*, timed: bool = False) -> str:
    """What MODELDROP_EXPORTER_PYTHON shall name; see ``forked_workers``. Where TEST_ROUNDS is all: our interpreter.

    All workers of one run of pytest-xdist share the processes, which end with the run and remove their folder.

    Args:
        timed: whether speed is measured by as many calls as users' builds take.
    """
    if TEST_ROUNDS == "all" or not hasattr(os, "pidfd_open"):
        return sys.executable
    return str(_clients() / ("timed" if timed else "python"))


@functools.cache
def _clients() -> Path:
    """A folder with a program to start workers with, and one for those that measure speed."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    owner = os.getppid() if run else os.getpid()
    folder = Path(tempfile.gettempdir(), f"exporter-{run}") if run else Path(tempfile.mkdtemp(prefix="exporter-"))
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for kind in forked_workers.KINDS:
                subprocess.run(
                    [sys.executable, "-P", forked_workers.__file__, "serve", str(folder / kind), kind, str(owner)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=worker_environment(os.environ),
                    start_new_session=True,
                    check=True,
                )
            for name, how in (("timed", "ask-timed"), ("python", "ask")):
                client = [sys.executable, "-IS", forked_workers.__file__, how, str(folder), sys.executable]
                (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
                (folder / name).chmod(0o755)
    return folder
