"""Tables in a terminal fit it and have colours; elsewhere they are plain and whole."""

from __future__ import annotations

import io

import pytest

from modeldrop.commands.terminal import Terminal
from modeldrop.util.text import table, text_width

ROWS = [("v2", "current", "a source with a very long name"), ("v1", "", "retired since 2026")]
HEADER = ("version", "channels", "source")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_it_is_plain_and_whole() -> None:
    for stream in (None, io.StringIO()):
        assert Terminal.of(stream, {"COLUMNS": "20"}) == Terminal()
    assert Terminal().table(HEADER, ROWS, cut=(2,)) == table(HEADER, ROWS)


@pytest.mark.parametrize(
    ("environment", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_where_nobody_has_refused_it(environment: dict[str, str], colour: bool) -> None:
    terminal = Terminal.of(Screen(), {"COLUMNS": "80", **environment})
    assert terminal == Terminal(80, colour)
    assert ("\x1b[" in terminal.table(HEADER, ROWS)) == colour


def test_lines_fit_and_only_what_may_be_cut_is() -> None:
    shown = Terminal(34).table(HEADER, ROWS, cut=(2,))
    assert shown.splitlines() == [
        "version  channels  source",
        "v2       current   a source with…",
        "v1                 retired since…",
    ]
    assert max(map(len, Terminal(10).table(HEADER, ROWS, cut=(2,)).splitlines())) == len("version  channels  ") + 8


def test_colours_take_no_room() -> None:
    painted, plain = Terminal(0, colour=True).table(HEADER, ROWS), table(HEADER, ROWS)
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m"):
        painted = painted.replace(code, "")
    assert painted == plain
    assert "\x1b[33mretired\x1b[0m since" in Terminal(0, colour=True).table(HEADER, ROWS)


def test_wide_letters_take_two_columns() -> None:
    assert (text_width("漢字"), text_width("e\u0301"), text_width("größe")) == (4, 1, 5)
    lines = table(("name", "size"), [("漢字", "1"), ("abcd", "2")]).splitlines()
    assert lines == ["name  size", "漢字  1", "abcd  2"]
