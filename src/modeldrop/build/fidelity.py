"""Judging a variant: its metrics against the recipe's thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.errors import FidelityError
from modeldrop.format.manifest import Fidelity, Worst
from modeldrop.format.recipe import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeldrop.format.recipe import Recipe

_SHOWN = 200


def judge(recipe: Recipe, variant: str, measured: Mapping[str, Any], texts: Sequence[str]) -> Fidelity:
    """The variant's fidelity record.

    Raises:
        FidelityError: a metric misses its threshold; names variant, metric, value, threshold, worst input.
        RecipeError never: a threshold on a metric that this task does not have is refused here too, so that
            nobody believes in a gate that was never there.
    """
    metrics: dict[str, float] = measured["metrics"]
    worst = {name: Worst(texts[index][:_SHOWN], value) for name, (index, value) in measured["worst"].items()}
    idle = sorted(set(recipe.thresholds.get(variant, ())) - set(metrics))
    if idle:
        raise FidelityError(
            f"The recipe sets {variant}.{idle[0]}, but this task has no such metric.",
            f"Its metrics are: {', '.join(sorted(metrics))}.",
        )
    thresholds = {}
    misses = []
    for name, value in sorted(metrics.items()):
        threshold = recipe.threshold(variant, name)
        if threshold is None:
            continue
        thresholds[name] = threshold
        if (value < threshold) if METRICS[name] == ">=" else (value > threshold):
            worst_text = worst.get(name) or worst["cosine_min"]
            misses.append(
                f"{variant}: {name} is {value:.6g}, asked is {METRICS[name]} {threshold:.6g}; "
                f"worst on {worst_text.text[:80]!r} ({worst_text.value:.6g})"
            )
    if misses:
        raise FidelityError(
            "The build does not behave like the original:\n  " + "\n  ".join(misses),
            f"Nothing was published. Leave {variant} out of the recipe's variants, or, if you can live with it, "
            f"set [thresholds.{variant}].",
        )
    return Fidelity(metrics, thresholds, worst, len(texts))
