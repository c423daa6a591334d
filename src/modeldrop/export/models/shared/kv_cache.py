"""The KV cache of decoders, as inputs and outputs of their graphs.

A decoder writes one token a step. What attention has computed for the tokens before, keys and values by layer, is the
cache: a graph takes it as inputs called ``past_key_values.*`` and gives it, one token longer, as outputs called
``present.*``, so that every step of a run is handed the outputs of the step before. There are three kinds of graphs:

- A language model's in ONNX has these inputs; its first step gets caches of length 0.
- A decoder beside an encoder (``decoder_model_merged``) has two branches, chosen by ``use_cache_branch``. The cache of
  what the encoder gave (``*.encoder.*``) never changes, and only the branch of the first step computes it: all later
  steps take it from the first one, not from the one before.
- OpenVINO's graphs of language models keep the cache themselves, as a state: nothing is handed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import onnx

from modeldrop.export.models.shared.golden import narrowed
from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep

NEW_TOKENS = 16
"""How many tokens a model writes when it is compared."""
TIMED_TOKENS = 8
"""And when its time is measured."""
_GOLDEN_RUNS = 2
_GOLDEN_STEPS = 3
_PAST, _PRESENT = "past_key_values.", "present."
OF_ENCODER = ".encoder."
_BRANCH = "use_cache_branch"


class KvCache:
    """The inputs of a decoder's graph.

    Args:
        inputs: names of all of them.
        shapes: of those that are the cache, when it is empty; {} for a graph that keeps it as a state.
    """

    def __init__(self, inputs: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self._shapes = shapes

    @classmethod
    def of(cls, path: Path) -> Self:
        """That of an ONNX graph."""
        inputs = onnx.load(path, load_external_data=False).graph.input
        # [batch, heads, length, width]: the length, which is free, is read as 0.
        shapes = {
            tensor.name: [1, *(dim.dim_value for dim in tensor.type.tensor_type.shape.dim[1:])]
            for tensor in inputs
            if tensor.name.startswith(_PAST)
        }
        return cls([tensor.name for tensor in inputs], shapes)

    @property
    def shapes(self) -> list[Sequence[int]]:
        """Of the inputs that are the cache, when it is empty; none of a graph that keeps it as a state."""
        return list(self._shapes.values())

    def empty(self) -> dict[str, Array]:
        """The inputs of a first step."""
        inputs: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        if _BRANCH in self.inputs:
            inputs[_BRANCH] = np.array([False])
        return inputs

    def after(self, first: int, last: int) -> dict[str, Array | StepOutput]:
        """The inputs of a step after others of this graph: the number of the first one, and of the last one."""
        inputs: dict[str, Array | StepOutput] = {}
        for name in self._shapes:
            of_encoder = _BRANCH in self.inputs and OF_ENCODER in name
            inputs[name] = StepOutput(first if of_encoder else last, name.replace(_PAST, _PRESENT, 1))
        if _BRANCH in self.inputs:
            inputs[_BRANCH] = np.array([True])
        return inputs

    def known(self, inputs: Mapping[str, Array | StepOutput]) -> dict[str, Array | StepOutput]:
        """Those of the inputs that the graph has."""
        return {name: source for name, source in inputs.items() if name in self.inputs}


def golden_runs(runs: Sequence[ModelRun]) -> list[ModelRun]:
    """What the manifest keeps of models that write: the shortest inputs, and few tokens of their answers."""
    chosen = sorted(runs, key=lambda run: len(run.text))[:_GOLDEN_RUNS]
    return [narrowed(_cut(run)) for run in chosen]


def _cut(run: ModelRun) -> ModelRun:
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


def repeated(run: ModelRun, size: int) -> ModelRun:
    """The same run for ``size`` equal rows, for measuring time."""
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
