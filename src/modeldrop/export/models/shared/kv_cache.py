"""Decoders that remember: the inputs of a graph that hold what it has computed for the tokens before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from modeldrop.export.models.shared.golden import narrowed
from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Array, ModelAnswer, Run, RunStep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NEW_TOKENS = 16
"""How many tokens a generator goes on with when it is compared."""
TIMED_TOKENS = 8
"""And when its time is measured."""
_GOLDEN_CHAINS = 2
_GOLDEN_STEPS = 3
_PAST, _PRESENT = "past_key_values.", "present."
_OF_ENCODER = ".encoder."
_BRANCH = "use_cache_branch"


class Past:
    """The inputs of a decoder's graph.

    A decoder that has a branch for the first run and one for the others (``use_cache_branch``) gives what it keeps of
    the encoder only in the first: later runs take it from there.
    """

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path, load_external_data=False).graph
        self.inputs = [tensor.name for tensor in graph.input]
        # [batch, heads, length, width]: nothing remembered yet is a length of 0.
        self._shapes = {
            tensor.name: [1, *(dim.dim_value for dim in tensor.type.tensor_type.shape.dim[1:])]
            for tensor in graph.input
            if tensor.name.startswith(_PAST)
        }

    def empty(self) -> dict[str, Array]:
        """The inputs of a first run."""
        inputs: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        if _BRANCH in self.inputs:
            inputs[_BRANCH] = np.array([False])
        return inputs

    def after(self, first: int, last: int) -> dict[str, Array | StepOutput]:
        """The inputs of a run after others: the number of the first one, and of the last one."""
        inputs: dict[str, Array | StepOutput] = {}
        for name in self._shapes:
            of_encoder = _BRANCH in self.inputs and _OF_ENCODER in name
            inputs[name] = StepOutput(first if of_encoder else last, name.replace(_PAST, _PRESENT, 1))
        if _BRANCH in self.inputs:
            inputs[_BRANCH] = np.array([True])
        return inputs

    def known(self, inputs: Mapping[str, Array | StepOutput]) -> dict[str, Array | StepOutput]:
        """Those of the inputs that the graph has."""
        return {name: source for name, source in inputs.items() if name in self.inputs}


class State:
    """In the place of ``Past`` for a graph that keeps its past itself: nothing is handed on.

    Args:
        inputs: the names of the graph's inputs.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self.inputs = inputs

    def empty(self) -> dict[str, Array]:
        """See ``Past``."""
        return {}

    def after(self, first: int, last: int) -> dict[str, Array | StepOutput]:
        """See ``Past``."""
        return {}

    def known(self, inputs: Mapping[str, Array | StepOutput]) -> dict[str, Array | StepOutput]:
        """See ``Past``."""
        return {name: source for name, source in inputs.items() if name in self.inputs}


def shortened(runs: Sequence[Run]) -> list[Run]:
    """What the manifest keeps of generators: the shortest inputs, and few tokens of their answers."""
    chosen = sorted(runs, key=lambda run: len(run.text))[:_GOLDEN_CHAINS]
    return [narrowed(_cut(run)) for run in chosen]


def _cut(run: Run) -> Run:
    dropped = max(len(run.outputs) - _GOLDEN_STEPS, 0)
    if not dropped:
        return run
    answer = run.answer
    return replace(
        run,
        steps=run.steps[:-dropped],
        outputs=run.outputs[:-dropped],
        answer=ModelAnswer(answer.values[:-dropped], answer.targets[:-dropped], answer.begin),
    )


def batch(run: Run, size: int) -> Run:
    """The same for ``size`` equal rows, for measuring time."""
    steps = tuple(
        RunStep(
            step.graph,
            {
                name: source if isinstance(source, StepOutput) or name == _BRANCH else source.repeat(size, 0)
                for name, source in step.inputs.items()
            },
        )
        for step in run.steps
    )
    return replace(run, steps=steps)
