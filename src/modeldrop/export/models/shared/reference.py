"""What the original answers, handed from the process that has it to the one that compares: one file of arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep

_PARTS = ("proof", "golden", "timed")


@dataclass(frozen=True, slots=True)
class ReferenceRuns:
    """Runs with the original's answers.

    Attributes:
        proof: what every variant is compared on.
        golden: what is kept in the manifest.
        timed: the runs whose time is measured: of one input, and of a batch of 32.
    """

    proof: Sequence[ModelRun]
    golden: Sequence[ModelRun]
    timed: Sequence[ModelRun]

    def save(self, path: Path) -> None:
        """Write it; numpy's ``.npz``, with the runs' structure as JSON in it."""
        arrays: dict[str, Array] = {}
        plain = {name: [_plain(run, arrays) for run in getattr(self, name)] for name in _PARTS}
        arrays["runs"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        np.savez(path, allow_pickle=False, **arrays)


def load_reference(path: Path) -> ReferenceRuns:
    """Read it again."""
    with np.load(path) as arrays:
        plain = json.loads(arrays["runs"].tobytes())
        proof, golden, timed = ([_make_run(item, arrays) for item in plain[name]] for name in _PARTS)
        return ReferenceRuns(proof, golden, timed)


def _plain(run: ModelRun, arrays: dict[str, Array]) -> dict[str, Any]:
    def keep(array: Array) -> str:
        name = f"a{len(arrays)}"
        arrays[name] = array
        return name

    return {
        "text": run.text,
        "steps": [
            {
                "graph": step.graph,
                "inputs": {
                    name: [source.step, source.output] if isinstance(source, StepOutput) else keep(source)
                    for name, source in step.inputs.items()
                },
            }
            for step in run.steps
        ],
        "outputs": [[link.step, link.output] for link in run.outputs],
        "answer": keep(run.answer.values),
        "targets": list(run.answer.targets),
        "begin": run.answer.begin,
        "question": run.answer.question,
        "at": list(run.at),
        "rows": list(run.rows),
        "read": [list(sample) for sample in run.read],
        "named": {name: keep(array) for name, array in run.answer.named.items()},
        "beside": {name: keep(array) for name, array in run.answer.beside.items()},
        "every": dict(run.every),
        "whole": dict(run.whole),
        "fields": dict(run.fields),
    }


def _make_run(plain: dict[str, Any], arrays: Any) -> ModelRun:
    steps = tuple(
        RunStep(
            step["graph"],
            {
                name: arrays[source] if isinstance(source, str) else StepOutput(*source)
                for name, source in step["inputs"].items()
            },
        )
        for step in plain["steps"]
    )
    answer = ModelAnswer(
        arrays[plain["answer"]],
        targets=tuple(plain["targets"]),
        begin=plain["begin"],
        question=plain["question"],
        named={name: arrays[array] for name, array in plain["named"].items()},
        beside={name: arrays[array] for name, array in plain["beside"].items()},
    )
    outputs = tuple(StepOutput(*link) for link in plain["outputs"])
    return ModelRun(
        text=plain["text"],
        steps=steps,
        outputs=outputs,
        answer=answer,
        at=tuple(plain["at"]),
        rows=tuple(plain["rows"]),
        read=tuple(tuple(sample) for sample in plain["read"]),
        every=plain["every"],
        whole={name: tuple(shape) for name, shape in plain["whole"].items()},
        fields=plain["fields"],
    )
