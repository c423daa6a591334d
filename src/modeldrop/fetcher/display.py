"""What is seen of fetches: bars on a terminal, plain lines elsewhere, or a line of JSON per event."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modeldrop.fetcher.events import json_line, progressed
from modeldrop.util.progress import Bars, Display, Track, is_live

if TYPE_CHECKING:
    from typing import TextIO

    from modeldrop.util.progress import Message

TEXT, JSON = "text", "json"


class JsonDisplay(Display):
    """One JSON object a line, for programs."""

    def _draw_progress(self) -> None:
        for one in self._shown:
            if isinstance(one, Track):
                done, total, rate = one.sample()
                if done != one.told:
                    one.told = done
                    self._tell(progressed(one.model, done, total, rate))

    def _tell(self, message: Message) -> None:
        self._say(json_line(message))  # type: ignore[arg-type]  # fetches tell events only


def open_display(log_format: str = TEXT, *, quiet: bool = False, stream: TextIO | None = None) -> Display:
    """The display that suits a stream, by default standard error."""
    stream = stream or sys.stderr
    if log_format == JSON:
        return JsonDisplay(stream, quiet=quiet)
    return (Bars if is_live(stream) else Display)(stream, quiet=quiet)
