from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from modeldrop.util.process import end, end_group, parse_signal, signal_name
from tests.helpers.waiting import HANG_SECONDS


def start(program: str, **more: object) -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more
    )
    assert process.stdout is not None
    process.stdout.readline()  # it is there
    return process


@pytest.mark.parametrize("text", ["15", "TERM", "sigterm", "SIGTERM"])
def test_a_signal_is_known_by_its_number_and_its_name(text: str) -> None:
    assert parse_signal(text) is signal.SIGTERM
    assert signal_name(signal.SIGTERM) == "SIGTERM"


def test_what_is_no_signal_is_told_by_its_number() -> None:
    assert (parse_signal("NONE"), parse_signal("999"), parse_signal("")) == (None, None, None)
    assert signal_name(200) == "signal 200"


def test_a_process_that_heeds_no_signal_is_killed_with_its_children() -> None:
    program = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); child = os.fork();"
        "child and print(child, flush=True); time.sleep(600)"
    )
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    end_group(process, 0.1)
    assert process.wait(HANG_SECONDS) == -signal.SIGKILL  # it is waited for a little only
    assert process.stdout.read() == b""  # the child is gone too: it held the other end
    process.stdout.close()
    assert child > 0


def test_a_process_is_ended_and_its_pipes_are_closed() -> None:
    process = start("import time; print(flush=True); time.sleep(600)")
    end(process)
    assert process.wait(HANG_SECONDS) == -signal.SIGKILL
    assert process.stdin is not None
    assert process.stdin.closed


def test_a_process_dies_with_its_parent() -> None:
    lifeline, ours = os.pipe()
    process = start(
        f"from modeldrop.util.process import die_with_parent; import time; die_with_parent({lifeline});"
        "print(flush=True); time.sleep(600)",
        pass_fds=(lifeline,),
    )
    os.close(lifeline)
    os.close(ours)
    assert process.wait(HANG_SECONDS) == 1
    end(process)
