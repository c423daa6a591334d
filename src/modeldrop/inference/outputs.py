"""How far the outputs of graphs that were taken as they are lie from the original's, by the types of the outputs.

=============== ======================================== ===========================================================
metric          outputs                                  what it is
=============== ======================================== ===========================================================
abs_error       numbers with a fraction                  the largest difference of two numbers
rel_error       numbers with a fraction                  that, as a share of the largest number of the output
label_agreement whole numbers, strings, true and false   the share that are the same
rank_agreement  [rows, scores] and [rows] with fractions the share of rows with the same highest score; of one score a
                                                         row, the share of pairs of rows that keep their order
=============== ======================================== ===========================================================

An error is the largest of all outputs and inputs, an agreement the mean of them all. What is no number where the
original's is none either is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Named = Mapping[str, Array]

FAR = 1e9
"""How far an answer is that has another shape, or is no number where the original's is one."""
_MOST_PAIRED = 1000
_TIE = 1e-6


def compare_named(
    expected: Sequence[Named], answers: Sequence[Named]
) -> tuple[dict[str, float], dict[str, tuple[int, float]]]:
    """Compare the outputs, input by input.

    Args:
        expected: the original's, by name.
        answers: the variant's.

    Returns:
        The metrics that these outputs have, and of each the index of the worst input with the value there.
    """
    scales = _scales(expected)
    found: dict[str, list[tuple[float, int]]] = {}
    for index, (one, other) in enumerate(zip(expected, answers, strict=True)):
        for name, mine in one.items():
            its = other.get(name)
            fits = its is not None and its.shape == mine.shape and (its.dtype.kind in _ALIKE[mine.dtype.kind])
            if mine.dtype.kind != "f":
                same = float(np.mean(mine == its)) if fits and mine.size else float(fits)
                found.setdefault("label_agreement", []).append((same, index))
                continue
            far = _furthest(mine, np.asarray(its, np.float64)) if fits else FAR
            found.setdefault("abs_error", []).append((far, index))
            found.setdefault("rel_error", []).append((min(far / scales[name], FAR), index))
            if mine.ndim == 2 and mine.shape[-1] > 1 and mine.size:
                same = _same_highest(mine, np.asarray(its)) if fits else 0.0
                found.setdefault("rank_agreement", []).append((same, index))
    found.setdefault("rank_agreement", []).extend(_orders(expected, answers))
    metrics, worst = {}, {}
    for metric, values in found.items():
        if not values:
            continue
        low = metric.endswith("_agreement")
        value, index = min(values) if low else max(values)
        worst[metric] = (index, round(value, 10))
        metrics[metric] = round(float(np.mean([one for one, _ in values])) if low else value, 10)
    return metrics, worst


# numpy's kinds of types that may stand for each other.
_ALIKE = {"f": "f", "i": "iu", "u": "iu", "b": "b", "U": "U"}


def _scales(expected: Sequence[Named]) -> dict[str, float]:
    scales: dict[str, float] = {}
    for one in expected:
        for name, array in one.items():
            if array.dtype.kind == "f":
                finite = np.abs(array[np.isfinite(array)])
                scales[name] = max(scales.get(name, 0.0), float(finite.max()) if finite.size else 0.0)
    return {name: scale or 1.0 for name, scale in scales.items()}


def _furthest(one: Array, other: Array) -> float:
    one = one.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    apart = np.abs(np.where(same, 0.0, one) - np.where(same, 0.0, other))
    return float(np.where(np.isfinite(apart), apart, FAR).max()) if apart.size else 0.0


def _same_highest(one: Array, other: Array) -> float:
    """The share of rows whose highest score is at the same place, or at one where the original's is as high."""
    one, other = (np.where(np.isnan(side), -np.inf, side) for side in (one, other))
    there, highest = one[np.arange(len(one)), other.argmax(-1)], one.max(-1)
    room = _TIE * np.maximum(np.abs(np.where(np.isfinite(highest), highest, 0.0)), _TIE)
    return float(np.mean(there >= highest - room))


def _orders(expected: Sequence[Named], answers: Sequence[Named]) -> list[tuple[float, int]]:
    """Of outputs with one score a row, the share of pairs of rows that keep their order; the original's ties may go."""
    found = []
    for name, first in expected[0].items():
        if first.dtype.kind != "f" or first.ndim not in {1, 2} or (first.ndim == 2 and first.shape[1] != 1):
            continue
        same_shapes = all(
            name in other and other[name].shape == one[name].shape for one, other in zip(expected, answers, strict=True)
        )
        mine = np.concatenate([one[name].ravel() for one in expected]).astype(np.float64)[:_MOST_PAIRED]
        if len(mine) < 2:
            continue
        if not same_shapes:
            found.append((0.0, 0))
            continue
        its = np.concatenate([other[name].ravel() for other in answers]).astype(np.float64)[:_MOST_PAIRED]
        above = np.triu_indices(len(mine), 1)
        with np.errstate(invalid="ignore"):  # of two infinite ones the difference is no number, and no order
            before, after = (side[above[0]] - side[above[1]] for side in (mine, its))
        apart = np.abs(before) > _TIE * max(float(np.abs(mine[np.isfinite(mine)]).max(initial=0.0)), _TIE)
        kept = ~apart | (np.sign(before) == np.sign(after))
        found.append((float(np.mean(kept)), 0))
    return found
