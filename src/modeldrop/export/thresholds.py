"""Judging a variant: its metrics against the recipe's thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.errors import FidelityError
from modeldrop.format.manifest import Fidelity, WorstInput
from modeldrop.format.recipe import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeldrop.format.recipe import Recipe

_SHOWN = 200


def judge(
    recipe: Recipe,
    variant: str,
    measured: Mapping[str, Any],
    inputs: Sequence[str],
    original: Mapping[str, float],
) -> Fidelity:
    """The variant's fidelity record.

    Args:
        recipe: what is asked.
        variant: its name.
        measured: what the comparison found: ``metrics``, and ``worst`` inputs by index.
        inputs: what people are shown of every input.
        original: figures that the recipe's own metric gives of the original.

    Raises:
        FidelityError: a metric misses its threshold; names variant, metric, value, threshold, worst input.
    """
    metrics: dict[str, float] = measured["metrics"]
    worst = {name: WorstInput(inputs[index][:_SHOWN], value) for name, (index, value) in measured["worst"].items()}
    thresholds = {}
    misses = [
        f"{variant}: {name} was asked for and cannot be measured on {len(inputs)} inputs"
        for name in sorted(set(recipe.thresholds.get(variant, {})) - set(metrics))
    ]
    for name, value in sorted(metrics.items()):
        threshold = recipe.threshold(variant, name)
        if threshold is None:
            continue
        thresholds[name] = threshold
        if (value < threshold) if METRICS[name] == ">=" else (value > threshold):
            # A mean has no worst input of its own: the one of the least cosine, or largest difference, stands for it.
            at = worst.get(name) or worst.get("cosine_min") or worst["max_abs"]
            misses.append(
                f"{variant}: {name} is {value:.6g}, asked is {METRICS[name]} {threshold:.7g}; "
                f"worst on {at.text[:80]!r} ({at.value:.6g})"
            )
    for name, limit in sorted(recipe.own_thresholds.get(variant, {}).items()):
        if name not in metrics:
            misses.append(f"{variant}: {name} was asked for, and the own metric gives {', '.join(original)}")
        elif limit.relative and original[name] < 0:
            misses.append(f"{variant}: {limit} of the original's {name} means nothing: that is {original[name]:.6g}")
        else:
            thresholds[name] = limit.value(original[name])
            if not limit.holds(metrics[name], original[name]):
                of = f" of the original's {original[name]:.7g}" if limit.relative else ""
                misses.append(f"{variant}: {name} is {metrics[name]:.7g}, asked is {limit}{of}")
    if misses:
        raise FidelityError(
            "The build does not behave like the original:\n  " + "\n  ".join(misses),
            f"Nothing was published. Leave {variant} out of the recipe's variants, or, if you can live with it, "
            f"set [thresholds.{variant}].",
        )
    return Fidelity(metrics, thresholds, worst, len(inputs))
