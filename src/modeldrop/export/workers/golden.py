"""Which part of a chain is kept in the manifest: as little as shows a broken CPU path."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modeldrop.format.golden import Golden, GoldenCase, GoldenChain, GoldenStep, StepOutput, TensorValue, golden_json
from modeldrop.inference.runs import Answer, Chain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeldrop.inference.runs import Array

_WIDTH = 64
_PER_ROW = 8


def narrowed(chain: Chain) -> Chain:
    """The chain with the positions of the answer that say most, where it is wide: each row's best ones, and targets.

    For scores of labels or tokens; what is 64 wide or less is kept whole.
    """
    values = chain.answer.values
    width = values.shape[-1]
    if width <= _WIDTH:
        return chain
    rows = values.reshape(-1, width)
    kept = set(chain.answer.targets)
    for row in rows:
        kept.update(np.argsort(-row, kind="stable")[:_PER_ROW].tolist())
    at = tuple(sorted(kept))
    targets = tuple(at.index(target) for target in chain.answer.targets)
    return replace(chain, answer=Answer(values[..., list(at)], targets, chain.answer.begin), at=at)


def golden_of(chains: Sequence[Chain], *, cases: bool) -> dict[str, Any]:
    """The manifest's golden, as plain values and without the variants' figures.

    Args:
        chains: what is kept.
        cases: whether every chain is one run of one graph on token ids, which every release can read.
    """
    if cases:
        output = chains[0].outputs[0].output
        known = tuple(
            GoldenCase(
                chain.text,
                {name: tuple(source[0].tolist()) for name, source in chain.steps[0].inputs.items()},  # type: ignore[index]
                _values(chain.answer.values),
            )
            for chain in chains
        )
        return golden_json(Golden(output, known, {}))
    return golden_json(Golden(chains[0].outputs[0].output, (), {}, tuple(_known(chain) for chain in chains)))


def _known(chain: Chain) -> GoldenChain:
    return GoldenChain(
        text=chain.text,
        steps=tuple(
            GoldenStep(
                step.graph,
                {
                    name: source if isinstance(source, StepOutput) else _literal(source)
                    for name, source in step.inputs.items()
                },
            )
            for step in chain.steps
        ),
        outputs=chain.outputs,
        at=chain.at,
        shape=chain.answer.values.shape,
        values=_values(chain.answer.values),
        targets=chain.answer.targets,
        begin=chain.answer.begin,
    )


def _literal(array: Array) -> TensorValue:
    """The array; as the coarsest grid that gives it back, where it was unfolded from one."""
    grid = tuple(_coarsest(array, axis) for axis in range(array.ndim)) if array.size else array.shape
    steps = (whole // part if part else 1 for whole, part in zip(array.shape, grid, strict=True))
    coarse = array[tuple(slice(None, None, step) for step in steps)]
    values = tuple((coarse.astype(np.int64) if coarse.dtype == np.bool_ else coarse).ravel().tolist())
    return TensorValue(str(array.dtype), array.shape, values, () if grid == array.shape else grid)


def _coarsest(array: Array, axis: int) -> int:
    """Into how few equal runs of equal values an axis falls."""
    length: int = array.shape[axis]
    moved = np.moveaxis(array, axis, 0).reshape(length, -1)
    changes = np.flatnonzero((moved[1:] != moved[:-1]).any(1)) + 1
    return length // math.gcd(length, *changes.tolist())


def _values(array: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in array.ravel())
