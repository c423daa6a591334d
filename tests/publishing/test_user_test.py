"""The test command, in real shells and processes."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import UsageError
from modeldrop.publishing.user_test import check_command, run_test
from tests.helpers.builds import start
from tests.helpers.waiting import GROWING_SECONDS, HANG_SECONDS, wait_for_end, wait_for_line

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
        return int(wait_for_line(file))

    return read


def test_a_test_that_takes_too_long_ends_with_all_it_has_started(background: Callable[[], int], tmp_path: Path) -> None:
    stubborn = 'trap "" TERM; sleep 300 & echo $! > "$PID"; trap - TERM; wait'
    for seconds in GROWING_SECONDS:
        assert run_test(stubborn, {}, seconds) == f"its test took longer than {seconds:g} s and was stopped"
        if (tmp_path / "a pid").exists():
            break
    wait_for_end(background())


def test_a_test_that_ends_leaves_nothing_running(background: Callable[[], int]) -> None:
    assert run_test('sleep 300 & echo $! > "$PID"', {}, 60) == ""
    wait_for_end(background())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, None)])
def test_a_test_ends_with_us(background: Callable[[], int], number: signal.Signals, code: int | None) -> None:
    process: subprocess.Popen[str] = start(WAITS, 'sleep 300 & echo $! > "$PID"; wait')
    running = background()
    process.send_signal(number)
    said, error = process.communicate(timeout=HANG_SECONDS)
    assert said == ""
    if code is None:
        assert "KeyboardInterrupt" in error
    else:
        assert process.returncode == code
    wait_for_end(running)


def test_what_is_no_command_is_refused_unrun(tmp_path: Path) -> None:
    check_command("")
    check_command("python 'checks/a b.py' && echo $HOME")
    for command in ("echo 'sekret", "if true; then", "(", "   "):
        with pytest.raises(UsageError) as caught:
            check_command(command)
        assert "sekret" not in str(caught.value)
    check_command(f"touch '{tmp_path}/run'")
    assert not (tmp_path / "run").exists()
