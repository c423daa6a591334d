"""Processes that are started, watched and ended: names of signals, groups, and what dies with its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from subprocess import DEVNULL, TimeoutExpired
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

_WAIT_SECONDS = 5.0


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``signal 35`` for one that has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def parse_signal(text: str) -> signal.Signals | None:
    """The signal of ``9``, ``KILL``, ``sigkill``; None where there is none."""
    try:
        if text.isdigit():
            return signal.Signals(int(text))
        name = text.upper()
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (KeyError, ValueError):
        return None


class EndedError(KeyboardInterrupt):
    """This process was told to end by a signal other than SIGINT, which Python makes a KeyboardInterrupt of."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP end this process as SIGINT does: by an exception, so that what was begun is undone.

    The first signal counts. What follows it (CI sends SIGTERM seven seconds after SIGINT) leaves that work alone, but
    for a second SIGINT: somebody sits there and does not want to wait. Outside the main thread, where a program runs a
    command within itself, signals stay that program's.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    ending = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    ]

    def end(number: int, _frame: object) -> None:
        for one in ending:
            signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise EndedError(number)

    for number in ending:
        signal.signal(number, end)


def exit_code_of(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a process that a signal has ended: 128 and its number."""
    return 128 + (interrupt.number if isinstance(interrupt, EndedError) else signal.SIGINT)


def end_group(process: Popen[bytes], grace: float = 0.0) -> None:
    """End a process that leads a group, and all that it has started.

    One that hangs in the kernel cannot be ended: it is waited for a little only.

    Args:
        process: started with ``start_new_session``.
        grace: seconds to end by itself after SIGTERM; 0 sends SIGKILL at once.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if grace and process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutExpired):
                process.wait(grace)
        os.killpg(process.pid, signal.SIGKILL)  # what it has started may live on without it
    with contextlib.suppress(TimeoutExpired):
        process.wait(_WAIT_SECONDS)


def end(process: Popen[bytes]) -> None:
    """Kill a process if it lives, and close its pipes. One that hangs in the kernel is waited for a little only."""
    if process.poll() is None:
        process.kill()
        with contextlib.suppress(TimeoutExpired):
            process.wait(_WAIT_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def die_with_parent(lifeline: int = 0) -> None:
    """Exit as soon as ``lifeline`` ends: a pipe that the parent holds open, and that the kernel closes when it dies."""

    def wait() -> None:
        while os.read(lifeline, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def own_answers() -> int:
    """Keep standard output for ourselves: a new descriptor of it. What libraries print goes to standard error.

    Returns:
        The descriptor.
    """
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


def same_imports() -> dict[str, str]:
    """The variable with which another process of this interpreter imports what this one does, wherever it runs."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if os.path.isabs(path))}  # noqa: PTH117


def standard_error() -> int:
    """Where a command that we run may print, when standard output is for our own answer."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced by something that is no file
        return DEVNULL
