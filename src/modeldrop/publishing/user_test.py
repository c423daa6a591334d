"""The user's own test of a version: a shell command that must succeed before a channel is moved to it.

It finds in its environment

    MODELDROP_NEW                the folder of the new version, complete: all variants
    MODELDROP_CURRENT            the folder of what the channel names now, likewise; empty if it names nothing
    MODELDROP_NEW_VERSION        such as v3
    MODELDROP_CURRENT_VERSION    such as v2, or empty
    MODELDROP_NEW_REFERENCE      REGISTRY/MODEL@v3@sha256:…, for whoever fetches it
    MODELDROP_MODEL              the model's name
    MODELDROP_CHANNEL            the channel that is to move; empty where none is

and is told nothing on its standard input. What it prints goes to standard error. It has a process group of its own,
which is ended with it: at its time limit, by our own end on SIGINT or SIGTERM, and also when it succeeds and has left
something running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from modeldrop.errors import UsageError
from modeldrop.util.process import end_group, signal_name, standard_error
from modeldrop.util.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SHELL = "/bin/sh"
_SYNTAX_SECONDS = 10.0
# GitHub kills what has not ended ten seconds after a job was cancelled.
_END_SECONDS = 4.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.1


def check_command(command: str) -> None:
    """Refuse what is no shell command, without running it; "" is fine.

    Raises:
        UsageError: the shell cannot read it.
    """
    if not command:
        return
    if not command.strip():
        raise UsageError("The test is empty.", "Write a shell command, or none.")
    try:
        checked = subprocess.run(
            [_SHELL, "-n", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SYNTAX_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it does not answer"
        raise UsageError(f"The shell {_SHELL} cannot be used: {reason}.") from None
    if checked.returncode:
        said = checked.stderr.decode("utf-8", "replace").strip().splitlines()
        # Not the command: it may hold a secret.
        raise UsageError(
            f"The test is no shell command: {said[0][:200] if said else 'it cannot be read'}",
            "Check its quotes and brackets.",
        )


def run_test(command: str, variables: Mapping[str, str], seconds: float) -> str:
    """Run a test; return "" if it succeeded, else how it ended, for people.

    Args:
        command: for ``/bin/sh -c``, in the present folder.
        variables: added to our own environment.
        seconds: how long it may take.

    Raises:
        KeyboardInterrupt, SystemExit: this process was interrupted or is to end; the test was ended first.
        UsageError: the shell cannot be started.
    """
    with _signals_noted() as came:
        try:
            process = subprocess.Popen(
                [_SHELL, "-c", command],
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=standard_error(),
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(
                f"The test could not be started: {error.strerror or error}.",
                "The version is published and not tested; no channel was moved.",
            ) from error
        limit = Deadline(seconds)
        while process.poll() is None and not came and limit.left():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(_LOOK_SECONDS, limit.left()))
        code = process.returncode
        end_group(process, _END_SECONDS)
    for number in came:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)
    if code is None:
        return f"its test took longer than {seconds:g} s and was stopped"
    if code < 0:
        return f"its test was ended by {signal_name(-code)}"
    return f"its test ended with exit code {code}" if code else ""


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Note the signals that would end us in a list, and nothing else.

    An exception that a handler raises could come while the test is being started, and nobody would end that.
    """
    came: list[int] = []
    before = {}
    # Only the main thread can set handlers, and only it is interrupted.
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                before[number] = signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
