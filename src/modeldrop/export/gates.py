"""Gates on size and speed: what a recipe's options ask of a variant besides fidelity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modeldrop.errors import GateError
from modeldrop.util.text import size_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeldrop.format.recipe import VariantOptions


def check_sizes(options: Mapping[str, VariantOptions], sizes: Mapping[str, int], origin: int, of: str = "fp32") -> None:
    """Refuse variants that are larger than asked; known before they are proven.

    Args:
        options: the recipe's, by variant.
        sizes: bytes of the graphs and weights, by variant.
        origin: those of the graphs that the variants are made of.
        of: what these are called.

    Raises:
        GateError: names all that are too large, and by how much.
    """
    misses = [
        f"{name}: {size_text(size)} ({size / origin:.1%} of {of}), asked is at most {options[name].max_size}"
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
    """Refuse variants that are not as much faster as asked.

    Args:
        options: the recipe's, by variant.
        speeds: milliseconds of a batch of one and of 32, by variant.
        fp32: those of fp32, on the same machine.

    Raises:
        GateError: names all that are too slow, and how fast they are.
    """
    misses = [
        f"{name}: {speedup(fp32, speeds[name]):.2f} times as fast as fp32 "
        f"({speeds[name][0]:.1f}/{speeds[name][1]:.0f} ms against {fp32[0]:.1f}/{fp32[1]:.0f} ms), "
        f"asked is {asked.must_be_faster:g}"
        for name, asked in options.items()
        if name in speeds and asked.must_be_faster and speedup(fp32, speeds[name]) < asked.must_be_faster
    ]
    if misses:
        raise GateError(
            "The build is slower than the recipe allows:\n  " + "\n  ".join(misses),
            "Nothing was published. Speed is of this machine: build where it serves, or leave must_be_faster out.",
        )
