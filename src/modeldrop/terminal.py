"""What a person sees of long work: numbered steps with a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 10.0


class Steps:
    """Progress in numbered steps on one stream (standard error by default).

    ``start`` opens a step, ``update`` says how far it is, ``finish`` closes it with what came of it.
    """

    def __init__(self, total: int, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._total = total
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live = not quiet and self._stream.isatty()
        self._number = 0
        self._title = ""
        self._began = self._drawn = time.monotonic()

    def start(self, title: str) -> None:
        """Open the next step."""
        self._number += 1
        self._title = title
        self._began = self._drawn = time.monotonic()
        if self._live:
            self._draw(f"{self._label()} …")

    def update(self, done: float, total: float, detail: str = "") -> None:
        """Say that ``done`` of ``total`` is done."""
        now = time.monotonic()
        pause = _REDRAW_SECONDS if self._live else _LINE_SECONDS
        if self._quiet or now - self._drawn < pause:
            return
        self._drawn = now
        share = min(done / total, 1.0) if total else 0.0
        if self._live:
            filled = round(share * _BAR_WIDTH)
            self._draw(f"{self._label()} {'█' * filled}{'░' * (_BAR_WIDTH - filled)} {share:4.0%} {detail}")
        else:
            self._line(f"{self._label()} {share:.0%} {detail}".rstrip())

    def finish(self, outcome: str) -> None:
        """Close the step."""
        seconds = time.monotonic() - self._began
        took = f"  ({seconds:.1f} s)" if seconds >= 0.1 else ""
        self._line(f"{self._label()} {outcome}{took}")

    def close(self) -> None:
        """Leave the terminal clean after a failure."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _label(self) -> str:
        return f"[{self._number}/{self._total}] {self._title:<9}"

    def _draw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns
        self._stream.write(f"\r\x1b[K{text[: width - 1]}")
        self._stream.flush()

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        self._stream.write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")
        self._stream.flush()


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A plain table for people: columns padded to their widest cell, two blanks apart.

    ``right`` names the columns (from 0) that are aligned to the right.
    """
    lines = [list(header), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _printable(text: str) -> str:
    # Cells come from registries: what they say must not move the cursor.
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def size_text(size: float) -> str:
    """``90.4 MB``, ``711.6 kB`` or ``24 B``; powers of 1000."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"
