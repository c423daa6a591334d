"""How the smallest variant was searched for: every step, and the curve of size against fidelity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from modeldrop.export.report.figures import Figure, figure
from modeldrop.export.report.formatting import size
from modeldrop.format.manifest import Manifest, SearchStep, Variant

_HEIGHT, _TOP, _BOTTOM = 300, 26, 34
_LEFT, _RIGHT = 9.0, 94.0
_CURVES = 2
_TICKS = 6
_NEAREST, _FARTHEST = 1e-12, 1e12
_NEAR_ACROSS, _NEAR_DOWN = 2.2, 15.0
_LABELS = ((-11, 0), (20, 0), (4, 2), (4, -2))
"""Where a point's number may stand: pixels down, and percent to the right of it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place on a curve: percent from the left, pixels from the top."""

    across: float
    down: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The steps by size and by one metric.

    Attributes:
        figure: the metric, with its threshold.
        spoken: the curve for those who hear the page.
        ticks: values of the scale, with their pixels from the top.
        limit: the threshold's pixels from the top.
        frontier: from each point that no smaller one beats to the next.
        points: each step's number, CSS class, place, and place of its number.
        sizes: sizes below the curve, with their percent from the left.
        height: in pixels.
    """

    figure: Figure
    spoken: str
    ticks: list[tuple[str, float]]
    limit: float
    frontier: list[tuple[Point, Point]]
    points: list[tuple[int, str, Point, Point]]
    sizes: list[tuple[str, float]]
    height: int = _HEIGHT


class Search:
    """The search for one variant, as the page shows it.

    Attributes:
        variant: what was searched for.
        taken: index of the step that is the variant; None where none meets the thresholds.
        figures: by step, what was measured of it: first the metrics that most steps missed, for they decided.
    """

    def __init__(self, manifest: Manifest, variant: Variant) -> None:
        self.variant = variant
        steps, limits = variant.search, variant.fidelity.thresholds
        # Where several meet the thresholds, the smallest is what the search leaves.
        holding = [index for index, step in enumerate(steps) if step.holds]
        self.taken = min(holding, key=lambda index: steps[index].weights, default=None)
        by_metric = [
            [figure(manifest, name, step.metrics.get(name), limits[name]) for step in steps]
            for name in limits
            if any(name in step.metrics for step in steps) and manifest.recipe.side(name)
        ]
        by_metric.sort(key=lambda figures: -sum(one.passed is False for one in figures))
        self.metrics = [figures[0].name for figures in by_metric]
        self.figures = list(zip(*by_metric, strict=True)) or [()] * len(steps)
        self.curves = [_curve(steps, figures, self.taken) for figures in by_metric[:_CURVES]]


def searches(manifest: Manifest) -> list[Search]:
    """The searches of all variants that were searched for."""
    return [Search(manifest, variant) for variant in manifest.variants if variant.search]


def _curve(steps: Sequence[SearchStep], figures: Sequence[Figure], taken: int | None) -> Curve:
    """Size against one metric; what is as good as the original would be at the top, on a scale of orders."""
    threshold = figures[0].threshold or 0.0
    scale = _Scale.over([*(one.value for one in figures if one.value is not None), threshold], figures[0])
    low, high = min(step.weights for step in steps), max(step.weights for step in steps)

    def across(weights: float) -> float:
        share = (weights - low) / (high - low) if high > low else 0.5
        return round(_LEFT + (_RIGHT - _LEFT) * share, 2)

    places = {
        index: Point(across(step.weights), scale.down(one.value))
        for index, (step, one) in enumerate(zip(steps, figures, strict=True))
        if one.value is not None
    }
    points: list[tuple[int, str, Point, Point]] = []
    labels: list[Point] = []
    for index, place in places.items():
        label = _label(place, [*places.values(), *labels])
        labels.append(label)
        css = "taken" if index == taken else "variant" if steps[index].holds else "missed"
        points.append((index + 1, css, place, label))
    ends = [(_LEFT, low)] if high == low else [(_LEFT, low), ((_LEFT + _RIGHT) / 2, (low + high) / 2), (_RIGHT, high)]
    spoken = ", ".join(f"{size(step.weights)} {one.shown}" for step, one in zip(steps, figures, strict=True))
    return Curve(
        figure=figures[0],
        spoken=f"{figures[0].name} by size, required is {figures[0].required}: {spoken}",
        ticks=scale.ticks(),
        limit=scale.down(threshold),
        frontier=_frontier(places.values()),
        points=points,
        sizes=[(size(count), place) for place, count in ends],
    )


def _frontier(points: Iterable[Point]) -> list[tuple[Point, Point]]:
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.across, one.down)):
        if not best or point.down < best[-1].down:
            best.append(point)
    return list(pairwise(best))


def _label(point: Point, others: Sequence[Point]) -> Point:
    """Where a point's number overlaps no other point or number, if possible."""
    spots = [Point(round(point.across + across, 2), round(point.down + down, 1)) for down, across in _LABELS]
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
    smallest: float
    largest: float

    @classmethod
    def over(cls, values: Sequence[float], of: Figure) -> _Scale:
        """The scale that shows all of these values of a figure."""
        sign = 1.0 if of.side == ">=" else -1.0
        # The user's own metrics may know no perfect value: then the best one is.
        perfect = of.perfect if of.perfect is not None else (max(values) if sign > 0 else min(values))
        deviations = [min(sign * (perfect - value), _FARTHEST) for value in values]
        positive = [deviation for deviation in deviations if deviation > _NEAREST] or [_NEAREST]
        smallest = min(positive) / (2 if len(positive) < len(deviations) else 1)
        return cls(sign, perfect, smallest / 1.15, max(*positive, smallest) * 1.15)

    def down(self, value: float) -> float:
        """Pixels from the top."""
        deviation = min(max(self.sign * (self.perfect - value), self.smallest), self.largest)
        share = math.log(deviation / self.smallest) / math.log(self.largest / self.smallest)
        return round(_TOP + share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def ticks(self) -> list[tuple[str, float]]:
        """Round values in the range with their places."""
        low, high = math.floor(math.log10(self.smallest)), math.ceil(math.log10(self.largest))
        for digits in ((1, 2, 5), (1, 3), (1,)):
            rounds = [digit * 10.0**power for power in range(low, high + 1) for digit in digits]
            inside = [one for one in rounds if self.smallest <= one <= self.largest]
            if len(inside) <= _TICKS:
                break
        values = (self.perfect - self.sign * one for one in inside)
        return [(f"{value:.10g}", self.down(value)) for value in values]
