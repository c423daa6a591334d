"""How far long work is, as people see it: bars on a terminal, plain lines elsewhere, nothing where quiet is wanted.

A ``Display`` is one stream with lines that stay and, on a terminal, bars below them that go. What is shown as a bar is
a ``Track`` (bytes that come, with a rate) or a step of ``Steps`` (numbered, with what came of it). Nothing is drawn and
no thread is started before the first of them is shown.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Self

from modeldrop.util.text import clock_text

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from typing import Protocol, TextIO

    class Message(Protocol):
        """Something to tell: a sentence for people ("" for none), and whether those who want quiet get it too."""

        @property
        def text(self) -> str: ...
        @property
        def urgent(self) -> bool: ...


LINE_SECONDS = 5.0
REDRAW_SECONDS = 0.2
_STEP_LINE_SECONDS = 10.0
_RATE_SECONDS = 5.0
_BAR_WIDTH = 24
_NARROW = 60  # columns that a line with a bar needs besides its label


class Shown:
    """Something that is under way.

    Attributes:
        label: what it is called on the screen.
        place: its place among the bars.
    """

    def __init__(self, label: str, place: int = 0) -> None:
        self.label = label
        self.place = place

    def line(self) -> str:
        """How far it is, for a log; "" where there is nothing new."""
        raise NotImplementedError

    def bar(self, width: int, columns: int, *, ascii_only: bool) -> str:
        """How far it is, for a terminal; its label fills ``width``, all of it ``columns`` at most."""
        raise NotImplementedError


class Track(Shown):
    """Bytes that come, such as those of one model.

    Attributes:
        model: the model's name.
        told: the bytes that were there when it was last told.
    """

    def __init__(self, display: Display, model: str, label: str, place: int) -> None:
        super().__init__(label, place)
        self.model = model
        self.told = 0
        self.done = self.total = 0
        self._shown = False
        self._display = display
        self._seen: list[tuple[float, int]] = []

    def progress(self, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` bytes are there. The display looks when it draws."""
        if not self._seen:
            self._seen.append((time.monotonic(), done))
        self.done, self.total = done, total
        if not self._shown:
            self._shown = True
            self._display.show(self)

    def end(self) -> None:
        """Show no more of it."""
        self._display.drop(self)

    def sample(self) -> tuple[int, int, float]:
        """Bytes done, bytes in all, and bytes per second over the last seconds. For the display's thread only."""
        now, done = time.monotonic(), self.done
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] < now - _RATE_SECONDS:
            del self._seen[0]
        began, before = self._seen[0]
        return done, self.total, max(done - before, 0) / (now - began) if now > began else 0.0

    def line(self) -> str:
        done, total, rate = self.sample()
        if done == self.told:
            return ""
        self.told = done
        return f"{self.label}: {_share(done, total):.0%} of {total / 1e6:.1f} MB{_speed(done, total, rate, ', ')}"

    def bar(self, width: int, columns: int, *, ascii_only: bool) -> str:
        done, total, rate = self.sample()
        share = _share(done, total)
        drawn = f"{_bar(share, ascii_only=ascii_only)} " if columns >= width + _NARROW else ""
        return (f"{self.label:<{width}} {drawn}{share:4.0%} of {total / 1e6:.1f} MB{_speed(done, total, rate, '  ')}")[
            : max(columns, 0)
        ]


class Display:
    """Plain lines: what happens, and every few seconds how far it is, if it moves.

    Use it in a ``with`` statement. Every method may be called from any thread, and none ever fails: that nobody
    reads the log any more is no reason to stop.

    Args:
        stream: where to write; None is nowhere.
        quiet: only what is urgent.
    """

    pause = LINE_SECONDS

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._lock = _thread.allocate_lock()
        self._shown: list[Shown] = []
        self._ticker: threading.Thread | None = None
        self._over: threading.Event | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ticker is not None and self._over is not None:
            self._over.set()
            self._ticker.join()
        with self._lock:
            self._shown.clear()
            self._draw()

    def emit(self, message: Message) -> None:
        """Tell what happened."""
        if message.urgent or not self._quiet:
            with self._lock:
                self._tell(message)

    def track(self, model: str, label: str = "", place: int = 0) -> Track:
        """Follow bytes; they are shown from the first one until ``Track.end``. ``place``: among the bars."""
        return Track(self, model, label or model, place)

    def show(self, one: Shown, *, at_once: bool = False) -> None:
        """Something has begun. On a terminal it is drawn within moments, or ``at_once``."""
        if self._quiet:
            return
        with self._lock:
            self._shown = sorted([*self._shown, one], key=lambda one: one.place)
            if at_once:
                self._draw()
            if self._ticker is None:
                import threading

                self._over = threading.Event()
                self._ticker = threading.Thread(target=self._tick, args=(self._over,), daemon=True)
                with contextlib.suppress(RuntimeError):  # no thread to be had: it is not drawn
                    self._ticker.start()

    def drop(self, one: Shown, outcome: str = "") -> None:
        """Something has ended; a line with its outcome stays, if it has one."""
        with self._lock:
            if one in self._shown:
                self._shown.remove(one)
                self._draw()
                if outcome:
                    self._say(outcome)

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(self.pause):
            with self._lock:
                self._draw_progress()

    def _draw_progress(self) -> None:
        for one in self._shown:
            if text := one.line():
                self._say(text)

    def _tell(self, message: Message) -> None:
        if message.text:
            self._say(message.text)

    def _say(self, text: str) -> None:
        """Write a line that stays."""
        self._write(f"{text}\n")

    def _draw(self) -> None:
        """Bring what stands on the screen up to date."""

    def _write(self, text: str) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()


class Bars(Display):
    """A bar for each on a terminal, drawn again at most five times a second, never wider than the terminal."""

    pause = REDRAW_SECONDS

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        super().__init__(stream, quiet=quiet)
        self._lines: list[str] = []
        self._height = 0  # lines that are on the screen now

    def _draw_progress(self) -> None:
        columns, rows = _size(self._stream)
        ascii_only = "utf" not in (getattr(self._stream, "encoding", None) or "utf-8").lower()
        width = max((len(one.label) for one in self._shown), default=0)
        bars = [one.bar(width, columns - 1, ascii_only=ascii_only) for one in self._shown]
        most = max(1, rows - 1)
        if len(bars) > most:
            bars = [*bars[: most - 1], f"and {len(bars) - most + 1} more"[: columns - 1]]
        if bars != self._lines:
            self._write(self._erasure() + "\n".join(bars))
            self._lines, self._height = bars, len(bars)

    def _say(self, text: str) -> None:
        lines = "\n".join(self._lines)
        self._write(f"{self._erasure()}{text}\n{lines}")

    def _draw(self) -> None:
        if self._shown:
            self._draw_progress()
        elif self._lines:
            self._write(self._erasure())
            self._lines, self._height = [], 0

    def _erasure(self) -> str:
        if not self._height:
            return ""
        up = f"\x1b[{self._height - 1}A" if self._height > 1 else ""
        return f"\r{up}\x1b[J"


class Steps:
    """Progress in numbered steps on one stream (standard error by default). Use it in a ``with`` statement.

    ``start`` opens a step, ``update`` says how far it is, ``finish`` closes it with what came of it. Where there is
    no terminal, a line every ten seconds shows that the work goes on, whether or not there was news.

    ``done`` is how many of the steps were shown before, by another one of these.
    """

    def __init__(self, total: int, stream: TextIO | None = None, *, quiet: bool = False, done: int = 0) -> None:
        self._total = total
        self._number = done
        stream = stream or sys.stderr
        live = is_live(stream)
        self._display = (Bars if live else Display)(stream, quiet=quiet)
        self._display.pause = REDRAW_SECONDS if live else _STEP_LINE_SECONDS
        self._step: _NumberedStep | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._display.__exit__()

    def start(self, title: str) -> None:
        """Open the next step."""
        self._number += 1
        self._step = _NumberedStep(f"[{self._number}/{self._total}] {title:<9}", self._display.pause)
        self._display.show(self._step, at_once=True)

    def update(self, done: float, total: float, detail: str = "") -> None:
        """Say that ``done`` of ``total`` is done."""
        if self._step is not None:
            self._step.state = (done / total if total else 0.0, detail)

    def finish(self, outcome: str) -> None:
        """Close the step."""
        if self._step is not None:
            self._display.drop(self._step, self._step.ended(outcome))


class _NumberedStep(Shown):
    """One of ``Steps``: how far it is and since when, once that is longer than ``pause``."""

    def __init__(self, label: str, pause: float) -> None:
        super().__init__(label)
        self.state: tuple[float, str] | None = None
        self._pause = pause
        self._began = time.monotonic()

    def ended(self, outcome: str) -> str:
        seconds = time.monotonic() - self._began
        return f"{self.label} {outcome}" + (f"  ({seconds:.1f} s)" if seconds >= 0.1 else "")

    def line(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{self.label} {self._state('')}  ({seconds:.0f} s)" if seconds >= self._pause else ""

    def bar(self, width: int, columns: int, *, ascii_only: bool) -> str:  # noqa: ARG002  there is one at a time
        seconds = time.monotonic() - self._began
        drawn = f"{_bar(self.state[0], ascii_only=ascii_only)} " if self.state else ""
        since = f"  ({seconds:.0f} s)" if seconds >= self._pause else ""
        return f"{self.label} {self._state(drawn)}{since}"[: max(columns, 0)]

    def _state(self, drawn: str) -> str:
        return f"{drawn}{min(self.state[0], 1.0):.0%} {self.state[1]}".rstrip() if self.state else "…"


def is_live(stream: TextIO | None) -> bool:
    """Whether what is written can be drawn over."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _bar(share: float, *, ascii_only: bool) -> str:
    full, empty = "#-" if ascii_only else "█░"
    filled = int(min(share, 1.0) * _BAR_WIDTH)
    return f"{full * filled}{empty * (_BAR_WIDTH - filled)}"


def _share(done: int, total: int) -> float:
    return min(done / total, 1.0) if total else 1.0


def _speed(done: int, total: int, rate: float, between: str) -> str:
    parts = ["", f"{rate / 1e6:.1f} MB/s"]
    if rate > 0 and done < total:
        parts.append(f"{clock_text((total - done) / rate)} left")
    return between.join(parts)


def _size(stream: TextIO | None) -> Sequence[int]:
    """Columns and rows; asked of this stream, since standard output may be elsewhere."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(stream.fileno())
            return columns or 80, rows or 24
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isdecimal() else 80, 24
