"""What is seen of fetches: bars on a terminal, plain lines elsewhere, or a line of JSON per event.

A fetch of what is there already draws nothing and starts no thread: the one that draws begins with the first byte.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Self

from modeldrop.fetcher.events import Event, clock_text, json_line, progressed

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from typing import TextIO

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
LINE_SECONDS = 5.0
REDRAW_SECONDS = 0.2
_RATE_SECONDS = 5.0
_BAR_WIDTH = 24
_NARROW = 60  # columns that a line with a bar needs besides the model's name


class Track:
    """How far one fetch is.

    Attributes:
        model: the model's name.
        label: what it is called on the screen; another one where a model is fetched twice.
        place: its place among the bars.
        told: the bytes that were there when it was last told.
    """

    def __init__(self, display: Display, model: str, label: str, place: int) -> None:
        self.model = model
        self.label = label
        self.place = place
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


class Display:
    """Plain lines: what happens, and every few seconds how far it is, if it moves.

    Use it in a ``with`` statement. Every method may be called from any thread, and none ever fails: that nobody
    reads the log any more is no reason to stop.

    Args:
        stream: where to write; None is nowhere.
        quiet: only warnings and errors.
    """

    pause = LINE_SECONDS

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._lock = _thread.allocate_lock()
        self._tracks: list[Track] = []
        self._ticker: threading.Thread | None = None
        self._over: threading.Event | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ticker is not None and self._over is not None:
            self._over.set()
            self._ticker.join()
        with self._lock:
            self._tracks.clear()
            self._draw()

    def emit(self, event: Event) -> None:
        """Tell what happened."""
        if event.urgent or not self._quiet:
            with self._lock:
                self._tell(event)

    def track(self, model: str, label: str = "", place: int = 0) -> Track:
        """Follow a fetch; it is shown from its first byte until ``Track.end``. ``place``: among the bars."""
        return Track(self, model, label or model, place)

    def show(self, track: Track) -> None:
        """A track has begun."""
        if self._quiet:
            return
        with self._lock:
            self._tracks = sorted([*self._tracks, track], key=lambda one: one.place)
            if self._ticker is None:
                import threading

                self._over = threading.Event()
                self._ticker = threading.Thread(target=self._tick, args=(self._over,), daemon=True)
                self._ticker.start()

    def drop(self, track: Track) -> None:
        """A track has ended."""
        with self._lock:
            if track in self._tracks:
                self._tracks.remove(track)
                self._draw()

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(self.pause):
            with self._lock:
                self._draw_progress()

    def _draw_progress(self) -> None:
        for track in self._tracks:
            done, total, rate = track.sample()
            if done != track.told:
                track.told = done
                self._tell(progressed(track.model, _line(track.label, done, total, rate), done, total, rate))

    def _tell(self, event: Event) -> None:
        if event.text:
            self._write(f"{event.text}\n")

    def _draw(self) -> None:
        """Bring what stands on the screen up to date."""

    def _write(self, text: str) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()


class JsonDisplay(Display):
    """One JSON object a line, for programs."""

    def _tell(self, event: Event) -> None:
        self._write(f"{json_line(event)}\n")


class Bars(Display):
    """A bar for each fetch on a terminal, drawn again at most five times a second, never wider than the terminal."""

    pause = REDRAW_SECONDS

    def __init__(self, stream: TextIO | None, *, quiet: bool = False) -> None:
        super().__init__(stream, quiet=quiet)
        self._lines: list[str] = []
        self._height = 0  # lines that are on the screen now

    def _draw_progress(self) -> None:
        columns, rows = _size(self._stream)
        plain = "utf" not in (getattr(self._stream, "encoding", None) or "").lower()
        width = max((len(track.label) for track in self._tracks), default=0)
        bars = [_bar(track, width, columns - 1, plain=plain) for track in self._tracks]
        most = max(1, rows - 1)
        if len(bars) > most:
            bars = [*bars[: most - 1], f"and {len(bars) - most + 1} more"[: columns - 1]]
        if bars != self._lines:
            self._write(self._erasure() + "\n".join(bars))
            self._lines, self._height = bars, len(bars)

    def _tell(self, event: Event) -> None:
        if event.text:
            lines = "\n".join(self._lines)
            self._write(f"{self._erasure()}{event.text}\n{lines}")

    def _draw(self) -> None:
        if self._tracks:
            self._draw_progress()
        elif self._lines:
            self._write(self._erasure())
            self._lines, self._height = [], 0

    def _erasure(self) -> str:
        if not self._height:
            return ""
        up = f"\x1b[{self._height - 1}A" if self._height > 1 else ""
        return f"\r{up}\x1b[J"


def open_display(log_format: str = TEXT, *, quiet: bool = False, stream: TextIO | None = None) -> Display:
    """The display that suits a stream, by default standard error."""
    stream = stream or sys.stderr
    if log_format == JSON:
        return JsonDisplay(stream, quiet=quiet)
    live = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    return (Bars if live else Display)(stream, quiet=quiet)


def _line(label: str, done: int, total: int, rate: float) -> str:
    return f"{label}: {_share(done, total):.0%} of {total / 1e6:.1f} MB{_speed(done, total, rate, ', ')}"


def _bar(track: Track, width: int, columns: int, *, plain: bool) -> str:
    done, total, rate = track.sample()
    share = _share(done, total)
    full, empty = "#-" if plain else "█░"
    filled = int(share * _BAR_WIDTH)
    bar = f"{full * filled}{empty * (_BAR_WIDTH - filled)} " if columns >= width + _NARROW else ""
    text = f"{track.label:<{width}} {bar}{share:4.0%} of {total / 1e6:.1f} MB{_speed(done, total, rate, '  ')}"
    return text[: max(columns, 0)]


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
    return 80, 24
