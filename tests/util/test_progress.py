"""What a person sees of long work, on a terminal and without one."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from modeldrop.util import progress
from modeldrop.util.progress import Steps

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_without_a_terminal_show_that_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_STEP_LINE_SECONDS", 0.02)
    stream = io.StringIO()
    with Steps(2, stream) as steps:
        steps.start("export")
        while stream.getvalue().count("…") < 2:
            time.sleep(0.01)
        steps.update(1, 4, "files")
        while "25% files" not in stream.getvalue():
            time.sleep(0.01)
        steps.finish("done")
    lines = stream.getvalue().splitlines()
    assert all(line.startswith("[1/2] export    ") for line in lines)
    assert lines[-1].startswith("[1/2] export    done")
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_bar_on_a_terminal_never_wraps_and_is_cleared_where_a_step_did_not_finish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Steps(1, stream) as steps:
        steps.start("fetch")
        steps.update(1, 2, "a name that is far too long for such a narrow terminal")
        while "█" not in stream.getvalue():
            time.sleep(0.01)
    drawn = stream.getvalue().split("\r\x1b[J")
    assert max(map(len, drawn)) < 40
    assert drawn[-1] == ""
    written = len(stream.getvalue())
    time.sleep(0.05)
    assert len(stream.getvalue()) == written


def test_quiet_says_nothing() -> None:
    stream = Terminal()
    with Steps(1, stream, quiet=True) as steps:
        steps.start("export")
        steps.update(1, 2)
        steps.finish("done")
    assert stream.getvalue() == ""
