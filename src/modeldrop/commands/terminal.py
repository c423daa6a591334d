"""How tables look in a terminal: lines that fit, and colour unless NO_COLOR is set. Elsewhere they are plain text."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from modeldrop.util.text import table

_BOLD, _DIM, _RED, _YELLOW, _PLAIN = ("\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m")
_STATE = re.compile(r"\b(damaged|rejected|retired|unfinished|pruned|rollback)\b")
_BAD = {"damaged", "rejected"}


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where a table is shown: how many columns there are, 0 for any number, and whether it has colours."""

    width: int = 0
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> Terminal:
        """The terminal that a stream is, if it is one."""
        if stream is None or not stream.isatty():
            return cls()
        columns = environment.get("COLUMNS", "")
        width = int(columns) if columns.isdecimal() else 0
        with contextlib.suppress(OSError, ValueError):
            width = width or os.get_terminal_size(stream.fileno()).columns
        return cls(width, not environment.get("NO_COLOR") and environment.get("TERM") != "dumb")

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        right: Sequence[int] = (),
        cut: Sequence[int] = (),
    ) -> str:
        """A table that suits it; the columns ``cut`` may be shortened."""
        return table(header, rows, right=right, width=self.width, cut=cut, paint=_paint if self.colour else None)


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), cut: Sequence[int] = ()
) -> None:
    """Print a table on standard output."""
    print(Terminal.of(sys.stdout).table(header, rows, right=right, cut=cut))


def _paint(cell: str, row: int, column: int) -> str:
    if row == 0:
        return f"{_DIM}{cell}{_PLAIN}"
    if column == 0:
        return f"{_BOLD}{cell}{_PLAIN}"
    return _STATE.sub(lambda found: f"{_RED if found[0] in _BAD else _YELLOW}{found[0]}{_PLAIN}", cell)
