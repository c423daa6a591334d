"""What the recipe requires of variants: fidelity, size and speed. A build that misses any of it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modeldrop.errors import FidelityError, GateError
from modeldrop.export.inputs import quoted_input
from modeldrop.export.messages import Measurement, VerifyAnswer
from modeldrop.export.request import BuildRequest
from modeldrop.format.manifest import Fidelity, WorstInput
from modeldrop.format.recipe import METRICS, Recipe, VariantOptions
from modeldrop.format.variants import VARIANTS
from modeldrop.util.text import apart, latencies_text, size_text

_SHOWN = 200
SEARCH_HINT = "auto = true under [options.{}] searches for the layers that must stay in fp32"
"""What fixes a variant that is too far from the original, where there is a search for it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The fidelity records of the variants that are faithful, and by variant, what an optional one has missed."""

    faithful: Mapping[str, Fidelity]
    missed: Mapping[str, str]


def judge_all(request: BuildRequest, proven: VerifyAnswer) -> Judged:
    """Judge every variant.

    Raises:
        FidelityError: another one misses a threshold; see ``judge``.
    """
    faithful, missed = {}, {}
    for name, measured in proven.variants.items():
        try:
            faithful[name] = judge(request.recipe, name, measured, proven.inputs, proven.original_metrics)
        except FidelityError as error:
            if name not in request.optional:
                raise
            more = f"; {SEARCH_HINT.format(name)}" if VARIANTS[name].searched else ""
            missed[name] = error.message.partition("\n")[2].strip().replace("\n ", ";") + more
    return Judged(faithful, missed)


def judge(
    recipe: Recipe,
    variant: str,
    measured: Measurement,
    inputs: Sequence[str],
    original: Mapping[str, float],
) -> Fidelity:
    """The variant's fidelity record.

    Args:
        recipe: with the thresholds.
        variant: its name.
        measured: what the comparison found.
        inputs: what people are shown of every input.
        original: figures that the recipe's own metric gives of the original.

    Raises:
        FidelityError: a metric misses its threshold; names variant, metric, value, threshold, worst input.
    """
    metrics = measured.metrics
    worst = {name: WorstInput(inputs[index][:_SHOWN], value) for name, (index, value) in measured.worst.items()}
    thresholds = {}
    misses = [
        f"{variant}: {name} is required and cannot be measured on {len(inputs)} inputs"
        for name in sorted(set(recipe.thresholds.get(variant, {})) - set(metrics))
    ]
    for name, value in sorted(metrics.items()):
        threshold = recipe.threshold(variant, name)
        if threshold is None:
            continue
        thresholds[name] = threshold
        if (value < threshold) if METRICS[name] == ">=" else (value > threshold):
            # A mean has no worst input: the one with the lowest cosine, or the largest difference, is shown.
            index, at = next(measured.worst[one] for one in (name, "cosine_min", "max_abs") if one in measured.worst)
            quoted = quoted_input(inputs[index], index, own=recipe.inputs is not None)
            found, required = apart(value, threshold)
            misses.append(
                f"{variant}: {name} is {found}, required is {METRICS[name]} {required}; worst on {quoted} ({at:.6g})"
            )
    for name, limit in sorted(recipe.own_thresholds.get(variant, {}).items()):
        if name not in metrics:
            misses.append(f"{variant}: {name} is required, and the own metric gives {', '.join(original)}")
        elif limit.relative and original[name] < 0:
            misses.append(f"{variant}: {limit} of the original's {name} means nothing: that is {original[name]:.6g}")
        else:
            thresholds[name] = limit.value(original[name])
            if not limit.holds(metrics[name], original[name]):
                found, required = apart(metrics[name], thresholds[name])
                of = f" of the original's {original[name]:.7g}, so {required}" if limit.relative else ""
                misses.append(f"{variant}: {name} is {found}, required is {limit}{of}")
    if misses:
        raise FidelityError(
            "The build does not behave like the original:\n  " + "\n  ".join(misses),
            "Nothing was published. "
            + (f"In the recipe, {SEARCH_HINT.format(variant)}. Or leave" if VARIANTS[variant].searched else "Leave")
            + f" {variant} out of the recipe's variants, or, if you can live with it, set [thresholds.{variant}].",
        )
    return Fidelity(metrics, thresholds, worst, len(inputs))


def check_sizes(options: Mapping[str, VariantOptions], sizes: Mapping[str, int], origin: int, of: str = "fp32") -> None:
    """Refuse variants that are larger than the recipe allows; their size is known before they are compared.

    Args:
        options: the recipe's, by variant.
        sizes: bytes of the graphs and weights, by variant.
        origin: those of the graphs that the variants are made of.
        of: what these are called.

    Raises:
        GateError: names all that are too large, and by how much.
    """
    misses = [
        f"{name}: {size_text(size)} ({size / origin:.1%} of {of}), required is at most {options[name].max_size}"
        for name, size in sizes.items()
        if name in options and size > options[name].most_bytes(origin)
    ]
    if misses:
        raise GateError(
            "The build is larger than the recipe allows:\n  " + "\n  ".join(misses),
            "Nothing was published. Raise max_size, keep fewer layers, or build a smaller variant.",
        )


def speedup(fp32: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast: the geometric mean over a batch of one and one of 32, so that both count."""
    return math.exp(sum(math.log(a / b) for a, b in zip(fp32, other, strict=True)) / len(fp32))


def check_speeds(
    options: Mapping[str, VariantOptions], speeds: Mapping[str, Sequence[float]], fp32: Sequence[float]
) -> None:
    """Refuse variants that are not as much faster as the recipe requires.

    Args:
        options: the recipe's, by variant.
        speeds: milliseconds of a batch of one and of 32, by variant.
        fp32: those of fp32, on the same machine.

    Raises:
        GateError: names all that are too slow, and how fast they are.
    """
    misses = [
        f"{name}: {speedup(fp32, speeds[name]):.2f} times as fast as fp32 "
        f"({latencies_text(*speeds[name])} against {latencies_text(*fp32)}), "
        f"required is {wanted.must_be_faster:g}"
        for name, wanted in options.items()
        if name in speeds and wanted.must_be_faster and speedup(fp32, speeds[name]) < wanted.must_be_faster
    ]
    if misses:
        raise GateError(
            "The build is slower than the recipe allows:\n  " + "\n  ".join(misses),
            "Nothing was published. Speed is of this machine: build where it serves, or leave must_be_faster out.",
        )
