"""Progress of long work: numbered steps with a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from typing import TextIO

_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 10.0


class Steps:
    """Progress in numbered steps on one stream (standard error by default). Use it in a ``with`` statement.

    ``start`` opens a step, ``update`` says how far it is, ``finish`` closes it with what came of it. In between
    it is drawn again five times a second on a terminal; elsewhere a line every ten seconds shows that the work
    goes on, whether or not there was news.

    ``done`` is how many of the steps were shown before, by another one of these.
    """

    def __init__(self, total: int, stream: TextIO | None = None, *, quiet: bool = False, done: int = 0) -> None:
        self._total = total
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live = self._stream.isatty()
        self._number = done
        self._title = self._state = ""
        self._running = False
        self._began = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        if not self._quiet:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            if self._running and self._live:
                self._write("")
            self._running = False

    def start(self, title: str) -> None:
        """Open the next step."""
        with self._lock:
            self._number += 1
            self._title, self._state = title, "…"
            self._running, self._began = True, time.monotonic()
            if self._live:
                self._write(f"{self._label()} …")

    def update(self, done: float, total: float, detail: str = "") -> None:
        """Say that ``done`` of ``total`` is done."""
        share = min(done / total, 1.0) if total else 0.0
        bar = ""
        if self._live:
            filled = round(share * _BAR_WIDTH)
            bar = f"{'█' * filled}{'░' * (_BAR_WIDTH - filled)} "
        with self._lock:
            self._state = f"{bar}{share:.0%} {detail}".rstrip()

    def finish(self, outcome: str) -> None:
        """Close the step."""
        with self._lock:
            self._running = False
            seconds = time.monotonic() - self._began
            took = f"  ({seconds:.1f} s)" if seconds >= 0.1 else ""
            self._write(f"{self._label()} {outcome}{took}", end="\n")

    def _tick(self) -> None:
        pause = _REDRAW_SECONDS if self._live else _LINE_SECONDS
        while not self._over.wait(pause):
            with self._lock:
                seconds = time.monotonic() - self._began
                if self._running and seconds >= pause:
                    text = f"{self._label()} {self._state}  ({seconds:.0f} s)"
                    self._write(text, end="" if self._live else "\n")

    def _label(self) -> str:
        return f"[{self._number}/{self._total}] {self._title:<9}"

    def _write(self, text: str, end: str = "") -> None:
        if self._quiet:
            return
        if self._live:
            if not end:
                text = text[: shutil.get_terminal_size().columns - 1]
            text = f"\r\x1b[K{text}"
        self._stream.write(text + end)
        self._stream.flush()
