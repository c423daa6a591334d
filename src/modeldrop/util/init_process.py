"""What the first process of a container must do itself: end when it is told to, and collect what others leave.

Of the signals that it has no handler for the kernel delivers none to process 1, and what loses its parent becomes its
child: nobody else collects that when it ends.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_FORWARDED = {*_ENDING, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2}


def is_first() -> bool:
    """Whether this is process 1."""
    return os.getpid() == 1


def end_on_signals() -> None:
    """Let SIGTERM, SIGHUP and SIGQUIT end this process at once, with 128 and their number, as they end any other one.

    A handler in Python runs when the main thread is back from where it is, which may be a library that waits for a
    network. So a thread of its own waits for what the interpreter writes into a pipe within the signal itself.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _ended)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        while numbers := os.read(reading, 64):
            for number in numbers:
                if signal.getsignal(number) is _ended:
                    _ended(number, None)

    _thread.start_new_thread(wait, ())


def become_init() -> bool:
    """Go on in a child of this process, which from now on hands on signals, collects what ends, and ends as the child.

    To be called before any thread is started. It is done by a process of its own because whoever collects every child
    takes the exit codes from those that wait for theirs.

    Returns:
        Whether there could be one; it returns in the child only, or where there is none.
    """
    waited = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        child = os.fork()
    except OSError:  # no more processes are allowed here
        child = -1
    if child <= 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child == 0
    while True:
        number = signal.sigwait(waited)
        if number == signal.SIGCHLD:
            _collect(child)
        else:
            os.kill(child, number)  # not yet collected, so the number is still its own


def _collect(child: int) -> None:
    """Collect all that have ended; end with the child's exit code if it is among them."""
    with contextlib.suppress(ChildProcessError):
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            if process == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


def _ended(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
