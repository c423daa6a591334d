"""Which part of a run is kept in the manifest: as little as shows a broken CPU path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modeldrop.format.golden import (
    GOLDEN,
    STRING,
    ExampleStep,
    Golden,
    GoldenCase,
    GoldenChain,
    GoldenExample,
    GoldenStep,
    KnownArray,
    StepOutput,
    TensorValue,
)
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun

_WIDTH = 64
_PER_ROW = 8
_BOX = 4
_LETTERS = 2


def narrowed(run: ModelRun, per_row: int = _PER_ROW) -> ModelRun:
    """The run with the positions of the answer that say most, where it is wide: each row's best ones, and targets.

    For scores of labels or tokens, and sparse vectors; what is 64 wide or less is kept whole.
    """
    values = run.answer.values
    width = values.shape[-1]
    if width <= _WIDTH:
        return run
    rows = values.reshape(-1, width)
    kept = set(run.answer.targets)
    for row in rows:
        kept.update(np.argsort(-row, kind="stable")[:per_row].tolist())
    at = tuple(sorted(kept))
    targets = tuple(at.index(target) for target in run.answer.targets)
    return replace(run, answer=ModelAnswer(values[..., list(at)], targets, run.answer.begin), at=at)


def narrowed_boxes(run: ModelRun) -> ModelRun:
    """The run with the labels of the answer that say most: those of its best boxes, the last one, and the boxes."""
    values = run.answer.values
    width = values.shape[-1]
    best = np.argsort(-values[:, : width - _BOX].max(-1), kind="stable")[:_PER_ROW]
    kept = {int(values[row, : width - _BOX].argmax()) for row in best}
    at = tuple(sorted({*kept, *range(width - _BOX - 1, width)}))
    return replace(run, answer=ModelAnswer(values[:, list(at)]), at=at)


def narrowed_frames(run: ModelRun) -> ModelRun:
    """The run with the letters of the answer that say most, and the first, which is none; of what is 64 wide, all."""
    values = run.answer.values
    if values.shape[-1] <= _WIDTH:
        return run
    best = np.argsort(-values, axis=-1, kind="stable")[:, :_LETTERS]
    kept = sorted({0, *best.ravel().tolist()})
    return replace(run, answer=ModelAnswer(values[:, kept]), at=tuple(run.at[index] for index in kept))


def golden_of(runs: Sequence[ModelRun], *, cases: bool) -> dict[str, Any]:
    """The manifest's golden, as plain values and without the variants' figures.

    Args:
        runs: what is kept.
        cases: whether every run is one run of one graph on token ids, which every release can read.
    """
    if cases:
        output = runs[0].outputs[0].output
        known = tuple(
            GoldenCase(
                run.text,
                {name: tuple(source[0].tolist()) for name, source in run.steps[0].inputs.items()},  # type: ignore[union-attr]
                _values(run.answer.values),
            )
            for run in runs
        )
        return GOLDEN.write(Golden(output, known, {}))
    if runs and runs[0].answer.named:
        output = next(iter(runs[0].answer.named))
        return GOLDEN.write(Golden(output, (), {}, examples=tuple(_example(run) for run in runs)))
    return GOLDEN.write(Golden(runs[0].outputs[0].output, (), {}, tuple(_known(run) for run in runs)))


def _example(run: ModelRun) -> GoldenExample:
    """A known input of graphs that were taken as they are; each of its steps with the outputs of its own graph."""
    several = len({step.graph for step in run.steps}) > 1
    steps = []
    for step in run.steps:
        before = f"{step.graph}/" if several else ""
        outputs = {
            name.removeprefix(before): _kept(array, run.every.get(name, 1), run.whole.get(name, array.shape))
            for name, array in run.answer.named.items()
            if name.startswith(before)
        }
        inputs = {name: _any_literal(array) for name, array in step.inputs.items() if isinstance(array, np.ndarray)}
        steps.append(ExampleStep(step.graph, inputs, outputs))
    return GoldenExample(run.text, tuple(steps))


def _any_literal(array: Array) -> KnownArray:
    if array.dtype.kind in "OU" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        return _kept(array, 1, array.shape)
    known = _literal(array)
    return KnownArray(known.dtype, known.shape, known.values, grid=known.grid)


def _kept(array: Array, every: int, shape: Sequence[int]) -> KnownArray:
    """An array of any type, whole or, where ``every`` is more than 1, thinned already."""
    flat, dtype = array.ravel(), STRING if array.dtype.kind in "OU" else str(array.dtype)
    if dtype == STRING:
        return KnownArray(dtype, tuple(shape), texts=tuple(str(one) for one in flat), every=every)
    if array.dtype.kind != "f":
        return KnownArray(dtype, tuple(shape), tuple(int(one) for one in flat), every=every)
    if not np.isfinite(flat).all():
        return KnownArray(dtype, tuple(shape), texts=tuple(repr(float(one)) for one in flat), every=every)
    return KnownArray(dtype, tuple(shape), _values(flat), every=every)


def _known(run: ModelRun) -> GoldenChain:
    return GoldenChain(
        text=run.text,
        steps=tuple(
            GoldenStep(
                step.graph,
                {
                    name: source if isinstance(source, StepOutput) else _literal(source)
                    for name, source in step.inputs.items()
                },
            )
            for step in run.steps
        ),
        outputs=run.outputs,
        at=run.at,
        shape=run.answer.values.shape,
        values=_values(run.answer.values),
        targets=run.answer.targets,
        begin=run.answer.begin,
        rows=run.rows,
    )


def literal_size(array: Any) -> int:
    """How many elements a known input takes in a manifest."""
    return math.prod(_coarsest(array, axis) for axis in range(array.ndim)) if array.size else 0


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
