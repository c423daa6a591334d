"""Fidelity metrics: how far a variant's answers are from the original's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

_DIGITS = 8


def compare(
    expected: Sequence[Array], answers: Sequence[Array], *, classifies: bool
) -> tuple[dict[str, float], dict[str, tuple[int, float]]]:
    """Compare answers text by text.

    Args:
        expected: the original's outputs, one array a text, of shapes [dimension], [labels], or
            [tokens, dimension or labels].
        answers: the variant's, of the same shapes.
        classifies: whether the last axis holds scores of labels.

    Returns:
        The metrics, and for each the index of the worst text with the value there. ``cosine_mean`` and
        ``cosine_min`` where there is a direction to compare (last axis longer than 1), ``correlation``
        (Pearson's, over all texts) where the answer is one number, ``top1`` (share of equal best labels)
        for classifiers, ``max_abs`` always. A non-finite answer is as far off as can be.
    """
    differences = np.array([_max_abs(one, other) for one, other in zip(expected, answers, strict=True)])
    worst = int(differences.argmax())
    metrics = {"max_abs": float(differences[worst])}
    where = {"max_abs": (worst, metrics["max_abs"])}
    if expected[0].shape[-1] > 1:
        cosines = np.array([_cosine(one, other) for one, other in zip(expected, answers, strict=True)])
        low = int(cosines.argmin())
        metrics |= {"cosine_mean": float(cosines.mean()), "cosine_min": float(cosines[low])}
        where["cosine_min"] = (low, float(cosines[low]))
        if classifies:
            agreement = np.array(
                [np.mean(one.argmax(-1) == other.argmax(-1)) for one, other in zip(expected, answers, strict=True)]
            )
            metrics["top1"] = float(agreement.mean())
            where["top1"] = (int(agreement.argmin()), float(agreement.min()))
    else:
        metrics["correlation"] = _correlation(expected, answers)
        where["correlation"] = (worst, metrics["correlation"])
    rounded = {name: round(min(value, 1e9), _DIGITS) for name, value in metrics.items()}
    return rounded, {name: (index, round(min(value, 1e9), _DIGITS)) for name, (index, value) in where.items()}


def _max_abs(one: Array, other: Array) -> float:
    if not np.isfinite(other).all():
        return 1e9
    return float(np.abs(one - other).max())


def _cosine(one: Array, other: Array) -> float:
    """Mean cosine along the last axis."""
    if not np.isfinite(other).all():
        return -1.0
    one, other = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return float(np.mean((one * other).sum(-1) / np.maximum(norms, 1e-30)))


def _correlation(expected: Sequence[Array], answers: Sequence[Array]) -> float:
    one, other = (np.concatenate([np.ravel(x) for x in side]).astype(np.float64) for side in (expected, answers))
    if not np.isfinite(other).all():
        return -1.0
    one, other = one - one.mean(), other - other.mean()
    scale = np.linalg.norm(one) * np.linalg.norm(other)
    if scale == 0:
        return 1.0 if np.allclose(one, other) else 0.0
    return float(one @ other / scale)
