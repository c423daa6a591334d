"""The test command, in real shells and processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import UsageError
from modeldrop.publishing.user_test import check_command, run_test
from tests.helpers.builds import start

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

WAITS = """
import sys
from modeldrop.publishing.user_test import run_test
print(repr(run_test(sys.argv[1], {}, 60)))
"""


def test_how_a_test_ends() -> None:
    assert run_test("true", {}, 60) == ""
    assert run_test("exit 7", {}, 60) == "its test ended with exit code 7"
    assert run_test("no-such-command", {}, 60) == "its test ended with exit code 127"
    assert run_test("kill -KILL $$", {}, 60) == "its test was ended by SIGKILL"
    assert run_test("cat", {}, 60) == ""  # its standard input is empty
    assert run_test("test \"$NAME\" = '; rm -rf ~ $(id)'", {"NAME": "; rm -rf ~ $(id)"}, 60) == ""


def test_what_it_prints_goes_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)  # pytest's own has no descriptor
    assert run_test("echo one; echo two >&2", {}, 60) == ""
    assert capfd.readouterr() == ("", "one\ntwo\n")


@pytest.fixture
def background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """What ``$PID`` in a command names: where a process that it left in the background wrote its number."""
    file = tmp_path / "a pid"
    monkeypatch.setenv("PID", str(file))

    def read() -> int:
        while not file.exists() or not file.read_text().endswith("\n"):
            time.sleep(0.01)
        return int(file.read_text())

    return read


def gone(pid: int) -> bool:
    """Whether a process is no more, within a while: nobody but init waits for it."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z":
                return True
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_a_test_that_takes_too_long_ends_with_all_it_has_started(background: Callable[[], int]) -> None:
    stubborn = 'trap "" TERM; sleep 300 & echo $! > "$PID"; trap - TERM; wait'
    assert run_test(stubborn, {}, 0.5) == "its test took longer than 0.5 s and was stopped"
    assert gone(background())


def test_a_test_that_ends_leaves_nothing_running(background: Callable[[], int]) -> None:
    assert run_test('sleep 300 & echo $! > "$PID"', {}, 60) == ""
    assert gone(background())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, None)])
def test_a_test_ends_with_us(background: Callable[[], int], number: signal.Signals, code: int | None) -> None:
    process: subprocess.Popen[str] = start(WAITS, 'sleep 300 & echo $! > "$PID"; wait')
    running = background()
    process.send_signal(number)
    said, error = process.communicate(timeout=30)
    assert said == ""
    if code is None:
        assert "KeyboardInterrupt" in error
    else:
        assert process.returncode == code
    assert gone(running)


def test_what_is_no_command_is_refused_unrun(tmp_path: Path) -> None:
    check_command("")
    check_command("python 'checks/a b.py' && echo $HOME")
    for command in ("echo 'sekret", "if true; then", "(", "   "):
        with pytest.raises(UsageError) as caught:
            check_command(command)
        assert "sekret" not in str(caught.value)
    check_command(f"touch '{tmp_path}/run'")
    assert not (tmp_path / "run").exists()
