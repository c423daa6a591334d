"""The comparison of downloads as a bar chart: plain SVG, readable on light and on dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.download import CAPPED, COLD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.result import Row

FILE = "download.svg"
_OURS = "modeldrop, verified"
_WIDTH, _LABELS, _VALUES = 760, 190, 80
_BAR, _STEP, _HEAD, _EDGE = 18, 27, 40, 16
_STYLE = """\
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .note { font-size: 12px; fill: #59636e }
.peer { fill: #afb8c1 } .ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .note { fill: #9198a1 } .peer { fill: #656c76 } .ours { fill: #4493f8 }
}"""


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under one title: seconds by name, the fastest first."""

    title: str
    seconds: dict[str, float]


def groups(rows: Sequence[Row]) -> list[Group]:
    """What the rows of ``download`` say: nothing, if they are not among these."""
    titles = {COLD: "1 GiB, no limit per connection: seconds", CAPPED: "1 GiB, 40 MB/s per connection: seconds"}
    found = [Group(title, _fastest_first(_seconds(rows, what))) for what, title in titles.items()]
    return [group for group in found if group.seconds]


def svg(groups: Iterable[Group], note: str) -> str:
    """The chart; ``note`` says where it was measured."""
    parts, top = [], _EDGE
    for group in groups:
        parts.append(f'<text class="title" x="{_EDGE}" y="{top + 14}">{escape(group.title)}</text>')
        top += _HEAD - 8
        most = max(group.seconds.values())
        for name, seconds in group.seconds.items():
            width = max(2, round((_WIDTH - _LABELS - _VALUES) * seconds / most))
            kind, end = "ours" if name == _OURS else "peer", _LABELS + width + 8
            parts += [
                f'<text x="{_LABELS - 10}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
                f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{width}" height="{_BAR}" rx="3"/>',
                f'<text x="{end}" y="{top + 14}">{seconds:.2f}</text>',
            ]
            top += _STEP
        top += _EDGE
    parts.append(f'<text class="note" x="{_EDGE}" y="{top + 4}">{escape(note)}</text>')
    size = f'width="{_WIDTH}" height="{top + _EDGE}" viewBox="0 0 {_WIDTH} {top + _EDGE}"'
    described = "Seconds that each client needs to download 1 GiB"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{described}">'
    return "\n".join([head, f"<style>\n{_STYLE}\n</style>", *parts, "</svg>", ""])


def write(rows: Sequence[Row], folder: Path, note: str) -> None:
    """Draw the rows of ``download`` into ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(svg(groups(rows), note), "utf-8")


def _seconds(rows: Sequence[Row], what: str) -> dict[str, float]:
    found = {}
    for row in rows:
        name, matched, peer = row.name.partition(f"{what} (peer: ")
        if not name and matched and row.peer is not None:
            found[_OURS] = row.ours
            found[peer.removesuffix(")")] = row.peer
    return found


def _fastest_first(seconds: dict[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: item[1]))
