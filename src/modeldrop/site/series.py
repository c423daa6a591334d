"""Figures over versions as lines, and the moves of channels on a time line: places for the SVG in the templates.

A chart is as wide as its card: text is placed in percent and keeps its size, lines are drawn in thousandths of the
width, which are stretched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from modeldrop.export.report.figures import in_order
from modeldrop.export.report.formatting import number, size
from modeldrop.format.labels import metric_name
from modeldrop.format.recipe import METRICS
from modeldrop.site.document import VersionEntry
from modeldrop.site.reading import KnownChannel
from modeldrop.util.text import latency_text

_LEFT, _RIGHT = 125, 970
_TOP, _BOTTOM, _HEIGHT = 22, 150, 176
_WIDEST = 2 * (1000 - _RIGHT)
_LABELS = 6
_NEAR = 12.0
_LANE = 46
_COLOURS = 6


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """The values of one variant: its colour's number, and the paths of the line and of its dots."""

    name: str
    colour: int
    path: str
    dots: str


@dataclass(frozen=True, slots=True)
class VersionChart:
    """Lines over versions.

    Attributes:
        title: what is shown.
        note: which way is better, and what the dotted line is.
        spoken: the chart for those who hear the page.
        lines: one for each variant.
        ticks: values of the scale, with their pixels from the top.
        limits: thresholds: the same.
        columns: of each version, a path down the chart, and its values for whoever points at it.
        versions: numbers below the chart, with their percent from the left.
        left: where lines begin, in thousandths of the width.
        step: how wide a column is, likewise.
        height: in pixels.
    """

    title: str
    note: str
    spoken: str
    lines: list[SeriesLine]
    ticks: list[tuple[str, float]]
    limits: list[float]
    columns: list[tuple[str, str]]
    versions: list[tuple[int, float]]
    step: int
    left: int = _LEFT
    height: int = _HEIGHT


@dataclass(frozen=True, slots=True)
class Lane:
    """A channel on the time line: its moves with their percent from the left; a label is "" where there is no room."""

    name: str
    down: int
    moves: list[tuple[str, str, float]]


@dataclass(frozen=True, slots=True)
class TimeLine:
    """The moves of all channels of a model."""

    spoken: str
    lanes: list[Lane]
    ends: list[tuple[str, float]]
    height: int


def version_charts(entries: Sequence[VersionEntry], task: str) -> list[VersionChart]:
    """Size, latencies, and every metric with its thresholds, over versions from old to new; [] for a single one."""
    entries = [entry for entry in entries if entry.live]
    if len(entries) < 2:
        return []
    charts = [
        _chart("Size of the weights", "less is better", entries, lambda entry: entry.weights, size),
        _chart("Latency of one input", "median; less is better", entries, lambda entry: entry.one_ms, latency_text),
        _chart("Latency of 32", "median; less is better", entries, lambda entry: entry.batch_ms, latency_text),
    ]
    for metric in in_order({metric for entry in entries for metrics in entry.metrics.values() for metric in metrics}):
        better = {">=": "more is better", "<=": "less is better"}.get(METRICS.get(metric, ""), "")
        limits = {limits[metric] for limits in entries[-1].thresholds.values() if metric in limits}
        note = ", ".join(filter(None, (better, "dotted is the threshold" if limits else "")))

        def values(entry: VersionEntry, metric: str = metric) -> Mapping[str, float]:
            return {name: metrics[metric] for name, metrics in entry.metrics.items() if metric in metrics}

        charts.append(_chart(metric_name(metric, task), note, entries, values, number, limits=limits, zero=False))
    return [chart for chart in charts if chart.lines]


def time_line(channels: Iterable[KnownChannel]) -> TimeLine | None:
    """The moves of channels, a lane for each; None where there are fewer than two."""
    known = list(channels)
    moments = [(one, move, _seconds(move.at)) for one in known for move in one.channel.moves()]
    times = [at for _, _, at in moments if at is not None]
    if len(times) < 2:
        return None
    first, last = min(times), max(times)
    lanes, spoken = [], []
    for index, one in enumerate(known):
        moves: list[tuple[str, str, float]] = []
        free = math.inf
        for (
            move
        ) in one.channel.moves():  # the newest first: where there is no room for two, its label is the one to read
            at = _seconds(move.at)
            if at is None:
                continue
            across = round(
                (_LEFT + (_RIGHT - _LEFT) * ((at - first) / (last - first) if last > first else 0.5)) / 10, 2
            )
            label = f"v{move.version}" if free - across >= _NEAR else ""
            free = across if label else free
            moves.append((label, "back" if move.action == "rollback" else "forth", across))
        lanes.append(Lane(one.name, 34 + index * _LANE, moves[::-1]))
        spoken.append(f"{one.name}: " + ", ".join(f"v{m.version} {m.at[:10]}" for m in reversed(one.channel.moves())))
    ends = [(_day(first), _LEFT / 10), (_day(last), _RIGHT / 10)]
    return TimeLine("; ".join(spoken), lanes, ends, 34 + len(lanes) * _LANE)


def colours(entries: Iterable[VersionEntry]) -> dict[str, int]:
    """A colour's number for each variant, the same in every chart of a page."""
    names = dict.fromkeys(name for entry in entries for name in entry.weights)
    return {name: index % _COLOURS for index, name in enumerate(names)}


def _chart(
    title: str,
    note: str,
    entries: Sequence[VersionEntry],
    values_of: Callable[[VersionEntry], Mapping[str, float]],
    shown: Callable[[float], str],
    *,
    limits: Iterable[float] = (),
    zero: bool = True,
) -> VersionChart:
    limits = sorted(limits)
    by_version = [values_of(entry) for entry in entries]
    everything = [*limits, *(value for values in by_version for value in values.values())]
    low, high = min(everything, default=0.0), max(everything, default=0.0)
    if zero:
        low = min(low, 0.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5

    def across(index: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * index / (len(entries) - 1)

    def down(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * min(max((value / 2 - low / 2) / (high / 2 - low / 2), 0.0), 1.0), 1)

    lines = []
    for name, colour in colours(entries).items():
        points = [
            (round(across(index)), down(values[name])) for index, values in enumerate(by_version) if name in values
        ]
        if points:
            path = "M" + "L".join(f"{x} {y:g}" for x, y in points)
            lines.append(SeriesLine(name, colour, path, "".join(f"M{x} {y:g}h0" for x, y in points)))
    step = max(1, -(-len(entries) // _LABELS))
    marked = sorted({*range(len(entries) - 1, -1, -step)})
    last = by_version[-1]
    return VersionChart(
        title=title,
        note=note,
        spoken=f"{title}, v{entries[0].number} to v{entries[-1].number}; newest: "
        + ", ".join(f"{name} {shown(value)}" for name, value in last.items()),
        lines=lines,
        ticks=[(shown(value), down(value)) for value in (high, high / 2 + low / 2, low)],
        limits=[down(limit) for limit in limits],
        columns=[
            (f"M{round(across(index))} {_TOP}V{_BOTTOM}", _said(entries[index].number, values, shown))
            for index, values in enumerate(by_version)
            if values
        ],
        step=min(round((_RIGHT - _LEFT) / (len(entries) - 1)), _WIDEST),
        versions=[(entries[index].number, round(across(index) / 10, 2)) for index in marked],
    )


def _said(version: int, values: Mapping[str, float], shown: Callable[[float], str]) -> str:
    return f"v{version}: " + ", ".join(f"{name} {shown(value)}" for name, value in values.items())


def _seconds(at: str) -> float | None:
    try:
        return datetime.fromisoformat(at).timestamp()
    except (OverflowError, ValueError):  # no moment, such as 30 February
        return None


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d")
