"""Figures of fidelity beside their thresholds."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from modeldrop.export.report import formatting
from modeldrop.format.labels import metric_name
from modeldrop.format.manifest import Manifest, Variant
from modeldrop.format.recipe import METRICS, PERFECT


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of a variant.

    Attributes:
        metric: its name in the manifest.
        name: its name for people.
        value: as measured; None where it was not.
        threshold: what it must reach or stay below; None where nothing is required.
        side: on which side of its threshold a faithful value lies, ``>=`` or ``<=``; None where nobody says.
        perfect: the original's value; None where it is not known.
    """

    metric: str
    name: str
    value: float | None
    threshold: float | None
    side: str | None
    perfect: float | None

    @property
    def passed(self) -> bool | None:
        """Whether the value is on the faithful side; None where nothing is required."""
        return self._passes(self.value)

    def _passes(self, value: float | None) -> bool | None:
        if self.threshold is None or self.side is None:
            return None
        if value is None:
            return False
        return value >= self.threshold if self.side == ">=" else value <= self.threshold

    @property
    def shown(self) -> str:
        """The value with as many digits as it takes to see on which side of its threshold it lies."""
        if self.value is None:
            return "–"
        for digits in range(4, 17):
            text = formatting.number(self.value, digits)
            if self._passes(float(text)) == self._passes(self.value):
                return text
        return repr(self.value)

    @property
    def required(self) -> str:
        """The threshold: ``≥ 0.98``; "" where there is none."""
        sign = {">=": "≥ ", "<=": "≤ "}.get(self.side or "", "")
        return "" if self.threshold is None else f"{sign}{formatting.threshold(self.threshold)}"

    @property
    def used(self) -> float | None:
        """Which share of the deviation that is allowed was used; None where none is, or where it is not known."""
        if self.value is None or self.threshold is None or self.perfect is None or self.passed is None:
            return None
        direction = 1 if self.side == ">=" else -1
        allowed, deviation = direction * (self.perfect - self.threshold), direction * (self.perfect - self.value)
        return min(max(deviation / allowed, 0.0), 99.0) if allowed > 0 else None

    @property
    def is_perfect(self) -> bool:
        """Whether it equals the original's."""
        return self.value is not None and self.value == self.perfect


def framework_of(manifest: Manifest) -> str:
    """The original's framework without its version."""
    return manifest.original.framework.split(" ")[0] or "original"


def figure(manifest: Manifest, metric: str, value: float | None, threshold: float | None) -> Figure:
    """A metric's value as this manifest means it."""
    side = manifest.recipe.side(metric)
    perfect = PERFECT.get(METRICS.get(metric, ""), manifest.original.metrics.get(metric))
    return Figure(
        metric=metric,
        name=metric_name(metric, manifest.task),
        value=value,
        threshold=threshold,
        side=side,
        perfect=perfect,
    )


def variant_figures(manifest: Manifest, variant: Variant) -> list[Figure]:
    """What was measured or required of a variant: our metrics in their order, then others."""
    fidelity = variant.fidelity
    names = in_order({*fidelity.metrics, *fidelity.thresholds})
    return [figure(manifest, name, fidelity.metrics.get(name), fidelity.thresholds.get(name)) for name in names]


def in_order(metrics: AbstractSet[str]) -> list[str]:
    """Metrics as pages list them: ours in their order, then others."""
    return [name for name in METRICS if name in metrics] + sorted(metrics - METRICS.keys())
