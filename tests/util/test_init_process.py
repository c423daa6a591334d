from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.helpers.waiting import HANG_SECONDS

# Waits in C for ever, and nothing that Python does with a signal brings it back: a mutex that it holds itself.
STUCK = """
import ctypes
from modeldrop.util.init_process import end_on_signals
end_on_signals()
print("ready", flush=True)
mutex = ctypes.create_string_buffer(64)
for _ in range(2):
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""
CHILD = """
import os, signal, subprocess, sys
from modeldrop.util.init_process import become_init
assert become_init()
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(41))
print(os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
{then}
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it_wherever_it_is(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(HANG_SECONDS) == 128 + number


def test_what_is_ignored_stays_ignored() -> None:
    program = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{STUCK}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("then", "sent", "code"),
    [
        ("signal.pause()", signal.SIGUSR1, 41),
        ("signal.pause()", signal.SIGTERM, 128 + signal.SIGTERM),
        ("sys.exit(subprocess.run(['sh', '-c', 'exit 7']).returncode)", None, 7),
        ("os.kill(os.getpid(), signal.SIGKILL)", None, 128 + signal.SIGKILL),
    ],
)
def test_it_ends_as_its_child(then: str, sent: signal.Signals | None, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(then=then)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, blocked = process.stdout.readline().split(maxsplit=1)
        assert int(pid) != process.pid
        assert blocked == "set()\n"
        if sent is not None:
            process.send_signal(sent)
        assert process.wait(HANG_SECONDS) == code
