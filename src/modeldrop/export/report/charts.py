"""Sizes, latencies and fidelity as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modeldrop.export.report.blocks import section
from modeldrop.export.report.figures import figure
from modeldrop.export.report.formatting import limit, size, text, time
from modeldrop.export.report.header import framework_of
from modeldrop.format.labels import inputs_of, metric_name
from modeldrop.format.manifest import Manifest, Speed
from modeldrop.format.recipe import METRICS
from modeldrop.format.tasks import task_of

_NAME_WIDTH = 26


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    value: float
    shown: str
    css: str = "variant"


def charts(manifest: Manifest) -> str:
    """The variants beside each other and beside the original."""
    weights = [
        _Bar(variant.name, count, size(count))
        for variant in manifest.variants
        for count in [manifest.weights_of(variant)]
    ]
    original = manifest.original.weight_bytes
    weights.insert(0, _Bar(framework_of(manifest), original, size(original), "original"))
    costs = [("Size of the weights", "less is better", weights)]
    one, several = inputs_of(manifest)
    timed = "median, with a few tokens written" if task_of(manifest.task).writes else "median"
    for title, name in ((f"Latency of one {one}", "batch_1_ms"), (f"Latency of 32 {several}", "batch_32_ms")):
        if bars := _latencies(manifest, name):
            costs.append((title, f"{timed}; less is better", bars))
    higher = [
        metric
        for metric, side in METRICS.items()
        if side == ">=" and any(metric in variant.fidelity.metrics for variant in manifest.variants)
    ][:2]
    css = {1: "full", 2: "half"}.get(len(costs), "")
    cards = [_chart(title, note, bars, {}, css) for title, note, bars in costs]
    cards += [_fidelity_chart(manifest, metric, "half" if len(higher) == 2 else "full") for metric in higher]
    note = f"Measured on {manifest.machine}." if manifest.machine else ""
    return section("At a glance", note, f'<div class="charts">{"".join(cards)}</div>')


def _fidelity_chart(manifest: Manifest, metric: str, css: str) -> str:
    bars = [_Bar(framework_of(manifest), 1.0, "1", "original")]
    limits: dict[str, float] = {}
    for variant in manifest.variants:
        value, threshold = variant.fidelity.metrics.get(metric), variant.fidelity.thresholds.get(metric)
        if value is None:
            continue
        one = figure(manifest, metric, value, threshold)
        bars.append(_Bar(variant.name, value, one.shown, "missed" if one.passed is False else "variant"))
        if threshold is not None:
            limits[variant.name] = threshold
    note = "1 is the original; the mark is the threshold"
    return _chart(metric_name(metric, manifest.task), note, bars, limits, css)


def _latencies(manifest: Manifest, name: str) -> list[_Bar]:
    rows: list[tuple[str, Speed | None, str]] = [(framework_of(manifest), manifest.original.speed, "original")]
    rows += [(variant.name, variant.speed, "variant") for variant in manifest.variants]
    values = [(label, getattr(speed, name), css) for label, speed, css in rows if speed is not None]
    return [_Bar(label, value, time(value), css) for label, value, css in values]


def _chart(title: str, note: str, bars: Sequence[_Bar], limits: Mapping[str, float], css: str) -> str:
    """Bars from zero, each under its label and value; widths in percent, so that text keeps its size."""
    most = max((bar.value for bar in bars), default=0.0)
    row = 40
    parts = []
    for index, bar in enumerate(bars):
        top = index * row
        share = bar.value / most if most > 0 else 0.0
        width = f"{min(max(share, 0.0), 1.0) * 100:.2f}%"
        threshold = limits.get(bar.label) if bar.css != "original" else None
        asked = "" if threshold is None else f'<tspan class="soft" dx="8">≥ {limit(threshold)}</tspan>'
        parts.append(
            f'<text x="0" y="{top + 13}">{text(_cut(bar.label))}{asked}</text>'
            f'<text class="value" x="100%" y="{top + 13}">{text(bar.shown)}</text>'
            f'<rect class="track" x="0" y="{top + 20}" width="100%" height="10" rx="3"/>'
            f'<rect class="{bar.css}" x="0" y="{top + 20}" width="{width}" height="10" rx="3"/>'
        )
        if threshold is not None and 0 <= threshold <= most:
            spot = f"{threshold / most * 100:.2f}%"
            parts.append(f'<line class="limit" x1="{spot}" x2="{spot}" y1="{top + 17}" y2="{top + 33}"/>')
    spoken = f"{title}: " + ", ".join(f"{bar.label} {bar.shown}" for bar in bars)
    height = len(bars) * row - 6
    return (
        f'<div class="card {css}"><h3>{text(title)}<small>{text(note)}</small></h3>'
        f'<svg role="img" aria-label="{text(spoken)}" height="{height}">{"".join(parts)}</svg></div>'
    )


def _cut(label: str) -> str:
    return label if len(label) <= _NAME_WIDTH else label[: _NAME_WIDTH - 1] + "…"
