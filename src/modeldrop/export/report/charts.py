"""Sizes, latencies and fidelity of the variants as bars, beside each other and beside the original."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modeldrop.export.report.figures import figure, framework_of
from modeldrop.export.report.formatting import size
from modeldrop.format.labels import inputs_of, metric_name
from modeldrop.format.manifest import Manifest, Speed
from modeldrop.format.recipe import METRICS
from modeldrop.format.tasks import task_of
from modeldrop.util.text import latency_text


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its label, value, the value for people, CSS class, and the threshold that is marked on it, if any."""

    label: str
    value: float
    shown: str
    css: str = "variant"
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars under a title."""

    title: str
    note: str
    bars: list[Bar]
    css: str = ""

    @property
    def placed(self) -> list[tuple[Bar, str, str]]:
        """Each bar, its length, and where its threshold is, in percent; "" where that would be beyond the chart."""
        longest = max((bar.value for bar in self.bars), default=0.0)

        def place(value: float) -> str:
            share = value / longest if longest > 0 else 0.0
            return f"{min(max(share, 0.0), 1.0) * 100:.2f}%"

        return [
            (bar, place(bar.value), "" if bar.limit is None or not 0 <= bar.limit <= longest else place(bar.limit))
            for bar in self.bars
        ]

    @property
    def spoken(self) -> str:
        """The chart as text, for screen readers."""
        return f"{self.title}: " + ", ".join(f"{bar.label} {bar.shown}" for bar in self.bars)


def charts(manifest: Manifest) -> list[BarChart]:
    """What a variant costs: size and latencies; and up to two figures of fidelity."""
    original, one_input = manifest.original, inputs_of(manifest)
    weights = [(variant.name, manifest.weights_of(variant)) for variant in manifest.variants]
    bars = [Bar(framework_of(manifest), original.weight_bytes, size(original.weight_bytes), "original")]
    bars += [Bar(name, count, size(count)) for name, count in weights]
    costs = [("Size of the weights", "less is better", bars)]
    timed = "median, with a few tokens written" if task_of(manifest.task).writes and not manifest.problem else "median"
    speeds = [(framework_of(manifest), original.speed, "original")]
    speeds += [(variant.name, variant.speed, "variant") for variant in manifest.variants]
    for title, name in (
        (f"Latency of one {one_input[0]}", "batch_1_ms"),
        (f"Latency of 32 {one_input[1]}", "batch_32_ms"),
    ):
        if bars := list(_latencies(speeds, name)):
            costs.append((title, f"{timed}; less is better", bars))
    metrics = [
        metric
        for metric, side in METRICS.items()
        if side == ">=" and any(metric in variant.fidelity.metrics for variant in manifest.variants)
    ][:2]
    css = {1: "full", 2: "half"}.get(len(costs), "")
    return [BarChart(title, note, bars, css) for title, note, bars in costs] + [
        _fidelity(manifest, metric, "half" if len(metrics) == 2 else "full") for metric in metrics
    ]


def _latencies(speeds: Iterable[tuple[str, Speed | None, str]], name: str) -> Iterable[Bar]:
    for label, speed, css in speeds:
        if speed is not None:
            yield Bar(label, getattr(speed, name), latency_text(getattr(speed, name)), css)


def _fidelity(manifest: Manifest, metric: str, css: str) -> BarChart:
    bars = [Bar(framework_of(manifest), 1.0, "1", "original")]
    for variant in manifest.variants:
        value, threshold = variant.fidelity.metrics.get(metric), variant.fidelity.thresholds.get(metric)
        if value is not None:
            one = figure(manifest, metric, value, threshold)
            color = "missed" if one.passed is False else "variant"
            bars.append(Bar(label=variant.name, value=value, shown=one.shown, css=color, limit=threshold))
    note = "1 is the original; the mark is the threshold"
    return BarChart(metric_name(metric, manifest.task), note, bars, css)
