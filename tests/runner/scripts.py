"""Runs the script of a ``run:`` step as actions/runner does (ScriptHandler.cs)."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

_SHELLS = {"bash": "bash --noprofile --norc -e -o pipefail {0}", "sh": "sh -e {0}", "python": "python {0}"}
UNNAMED_SHELL = "bash -e {0}"
_EXTENSIONS = {"bash": ".sh", "sh": ".sh", "python": ".py"}


class ScriptError(Exception):
    """The script could not be started, or did not end."""


def run_script(
    script: str, shell: str, *, folder: Path, temp: Path, environment: Mapping[str, str], seconds: float
) -> tuple[int, str]:
    """Run a script to its end; its exit code, and what it printed to standard output and error together.

    Raises:
        ScriptError: the shell or the folder does not exist, or the time is over.
    """
    command, *arguments = shlex.split(_SHELLS.get(shell, shell))
    program = shutil.which(command, path=environment["PATH"])
    if program is None:
        raise ScriptError(f"{command}: command not found")
    if not folder.is_dir():
        raise ScriptError(f"An error occurred trying to start process '{program}' with working directory '{folder}'.")
    file = temp / f"{uuid.uuid4()}{_EXTENSIONS.get(command, '')}"
    file.write_text(script, "utf-8")
    process = subprocess.Popen(
        [program, *(argument.replace("{0}", str(file)) for argument in arguments)],
        cwd=folder,
        # What follows a NUL would not reach the process: its environment is made of C strings.
        env={name: value.partition("\0")[0] for name, value in environment.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    over = threading.Event()

    def stop() -> None:
        over.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        printed, _ = process.communicate()
    finally:
        timer.cancel()
    if over.is_set():
        raise ScriptError(f"The step did not end within {seconds:g} s:\n{printed.decode('utf-8', 'replace')}")
    return process.returncode, printed.decode("utf-8", "replace")
