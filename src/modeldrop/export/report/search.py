"""How the smallest variant was searched for: every try, and the curve of size against fidelity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from modeldrop.export.report.blocks import section, table
from modeldrop.export.report.figures import Figure, figure
from modeldrop.export.report.formatting import counted, size, text
from modeldrop.format.manifest import Manifest, SearchStep, Variant

_HEIGHT, _TOP, _BOTTOM = 300, 26, 34
_LEFT, _RIGHT = 9.0, 94.0
_CHARTS = 2
_TICKS = 6
_NEAREST, _FARTHEST = 1e-12, 1e12
_NEAR_ACROSS, _NEAR_DOWN = 2.2, 15.0
_LABELS = ((-11, 0), (20, 0), (4, 2), (4, -2))
"""Where a point's number may stand: pixels down, and percent to the right of it."""


def search(manifest: Manifest) -> str:
    """The searches of all variants that were searched for."""
    return "\n".join(_one(manifest, variant) for variant in manifest.variants if variant.search)


def _one(manifest: Manifest, variant: Variant) -> str:
    tries = variant.search
    holding = [index for index, tried in enumerate(tries) if tried.holds]
    # Where several hold, the smallest is what the search leaves.
    taken = min(holding, key=lambda index: tries[index].weights, default=None)
    metrics = [
        name
        for name in variant.fidelity.thresholds
        if any(name in tried.metrics for tried in tries) and manifest.recipe.side(name)
    ]
    # Those that most tries missed: they decided.
    metrics.sort(key=lambda name: -sum(_figure(manifest, variant, name, tried).passed is False for tried in tries))
    charts = [_chart(manifest, variant, name, taken) for name in metrics[:_CHARTS]]
    css = "full" if len(charts) == 1 else "half"
    cards = "".join(f'<div class="card {css}">{html}</div>' for html in charts)
    found = f"Number {taken + 1} was taken" if taken is not None else "None meets them"
    note = (
        f"The smallest that meets the thresholds was searched for in {counted(len(tries), 'try', 'tries')}. {found}. "
        "Numbers are in the order of the tries, the thin line is the best that each size gives, and what misses any "
        "threshold is red."
    )
    html = f'<div class="charts search">{cards}</div>\n' if cards else ""
    return section(f"The search for {variant.name}", note, html + _path(manifest, variant, metrics, taken))


def _figure(manifest: Manifest, variant: Variant, metric: str, tried: SearchStep) -> Figure:
    return figure(manifest, metric, tried.metrics.get(metric), variant.fidelity.thresholds.get(metric))


def _path(manifest: Manifest, variant: Variant, metrics: Sequence[str], taken: int | None) -> str:
    names = [_figure(manifest, variant, metric, variant.search[0]).name for metric in metrics]
    fp32 = manifest.original.weight_bytes
    rows = []
    for index, tried in enumerate(variant.search):
        share = f"<small>{tried.weights / fp32:.0%} of the original</small>" if fp32 else ""
        cells = []
        for metric in metrics:
            one = _figure(manifest, variant, metric, tried)
            css = "n mark no" if one.passed is False else "n"
            cells.append((css, f"{text(one.shown)}<small>{text(one.asked)}</small>"))
        result = "✓ taken" if index == taken else "✓ holds" if tried.holds else "✗ missed"
        rows.append(
            [
                ("name", str(index + 1)),
                ("any", text(tried.what)),
                ("n", f"{text(size(tried.weights))}{share}"),
                *cells,
                ("mark yes" if tried.holds else "mark no", result),
            ]
        )
    return table(("Try", "How it was made", "Weights", *names, "Result"), rows)


@dataclass(frozen=True, slots=True)
class _Point:
    """A try on the chart: percent from the left, pixels from the top."""

    across: float
    down: float


def _chart(manifest: Manifest, variant: Variant, metric: str, taken: int | None) -> str:
    """Size against one metric; what is as good as the original would be at the top, on a scale of orders."""
    ones = [_figure(manifest, variant, metric, tried) for tried in variant.search]
    threshold = _figure(manifest, variant, metric, variant.search[0]).threshold
    assert threshold is not None  # noqa: S101  metrics are those with one
    scale = _Scale.over([*(one.value for one in ones if one.value is not None), threshold], ones[0])
    weights = [tried.weights for tried in variant.search]
    low, high = min(weights), max(weights)
    points = {
        index: _Point(_LEFT + (_RIGHT - _LEFT) * ((tried.weights - low) / (high - low) if high > low else 0.5), down)
        for index, (tried, one) in enumerate(zip(variant.search, ones, strict=True))
        if one.value is not None
        for down in [scale.down(one.value)]
    }
    parts = [
        f'<line class="grid" x1="0" x2="100%" y1="{down:.1f}" y2="{down:.1f}"/>'
        f'<text class="soft" x="0" y="{down - 4:.1f}">{text(shown)}</text>'
        for shown, down in scale.ticks()
    ]
    limit = scale.down(threshold)
    parts.append(f'<line class="limit" x1="0" x2="100%" y1="{limit:.1f}" y2="{limit:.1f}"/>')
    parts += _frontier(points)
    placed: list[_Point] = []
    for index, point in points.items():
        css = "taken" if index == taken else "variant" if variant.search[index].holds else "missed"
        parts.append(f'<circle class="{css}" cx="{point.across:.2f}%" cy="{point.down:.1f}" r="5"/>')
        label = _label(point, [*points.values(), *placed])
        placed.append(label)
        parts.append(f'<text class="number" x="{label.across:.2f}%" y="{label.down:.1f}">{index + 1}</text>')
    ends = [(_LEFT, low)] if high == low else [(_LEFT, low), ((_LEFT + _RIGHT) / 2, (low + high) / 2), (_RIGHT, high)]
    parts += [
        f'<text class="soft number" x="{across:.2f}%" y="{_HEIGHT - 6}">{text(size(count))}</text>'
        for across, count in ends
    ]
    spoken = f"{ones[0].name} by size, asked is {ones[0].asked}: " + ", ".join(
        f"{size(tried.weights)} {one.shown}" for tried, one in zip(variant.search, ones, strict=True)
    )
    return (
        f"<h3>{text(ones[0].name)}<small>by size of the weights; the heavy line is {text(ones[0].asked)}</small></h3>"
        f'<svg role="img" aria-label="{text(spoken)}" height="{_HEIGHT}">{"".join(parts)}</svg>'
    )


def _frontier(points: dict[int, _Point]) -> list[str]:
    """The trade-off curve: from each point that none smaller beats to the next."""
    best: list[_Point] = []
    for point in sorted(points.values(), key=lambda one: (one.across, one.down)):
        if not best or point.down < best[-1].down:
            best.append(point)
    return [
        f'<line class="curve" x1="{one.across:.2f}%" x2="{other.across:.2f}%" '
        f'y1="{one.down:.1f}" y2="{other.down:.1f}"/>'
        for one, other in pairwise(best)
    ]


def _label(point: _Point, others: Sequence[_Point]) -> _Point:
    """Where a point's number stands in nobody's way, if there is such a place."""
    spots = [_Point(point.across + across, point.down + down) for down, across in _LABELS]
    free = (
        spot
        for spot in spots
        if not any(
            abs(spot.across - other.across) < _NEAR_ACROSS and abs(spot.down - 5 - other.down) < _NEAR_DOWN
            for other in others
            if other is not point
        )
    )
    return next(free, spots[0])


@dataclass(frozen=True, slots=True)
class _Scale:
    """A logarithmic scale of deviations from the perfect value, so that 0.9, 0.99 and 0.999 are equally far apart."""

    sign: float
    perfect: float
    least: float
    most: float

    @classmethod
    def over(cls, values: Sequence[float], of: Figure) -> _Scale:
        """The scale that shows all of these values of a figure."""
        sign = 1.0 if of.side == ">=" else -1.0
        # The user's own metrics may know no perfect value: then the best one is.
        perfect = of.perfect if of.perfect is not None else (max(values) if sign > 0 else min(values))
        deviations = [min(sign * (perfect - value), _FARTHEST) for value in values]
        positive = [deviation for deviation in deviations if deviation > _NEAREST] or [_NEAREST]
        least = min(positive) / (2 if len(positive) < len(deviations) else 1)
        most = max(positive)
        return cls(sign, perfect, least / 1.15, max(most, least) * 1.15)

    def down(self, value: float) -> float:
        """Pixels from the top."""
        deviation = min(max(self.sign * (self.perfect - value), self.least), self.most)
        share = math.log(deviation / self.least) / math.log(self.most / self.least)
        return _TOP + share * (_HEIGHT - _TOP - _BOTTOM)

    def ticks(self) -> list[tuple[str, float]]:
        """Round values in the range with their places."""
        low, high = math.floor(math.log10(self.least)), math.ceil(math.log10(self.most))
        for steps in ((1, 2, 5), (1, 3), (1,)):
            rounds = [step * 10.0**power for power in range(low, high + 1) for step in steps]
            inside = [one for one in rounds if self.least <= one <= self.most]
            if len(inside) <= _TICKS:
                break
        values = (self.perfect - self.sign * one for one in inside)
        return [(f"{value:.10g}", self.down(value)) for value in values]
