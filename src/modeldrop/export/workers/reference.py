"""What the original answers, handed from the process that has it to the one that compares: one file of arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Answer, Array, Chain, Step


@dataclass(frozen=True, slots=True)
class Reference:
    """Chains with the original's answers.

    Attributes:
        proof: what every variant is compared on.
        golden: what is kept in the manifest.
        timed: the chains whose time is measured: of one input, and of a batch of 32.
    """

    proof: Sequence[Chain]
    golden: Sequence[Chain]
    timed: Sequence[Chain]

    def save(self, path: Path) -> None:
        """Write it; numpy's ``.npz``, with the chains' structure as JSON in it."""
        arrays: dict[str, Array] = {}
        plain = {
            name: [_plain(chain, arrays) for chain in getattr(self, name)] for name in ("proof", "golden", "timed")
        }
        arrays["chains"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> Reference:
    """Read it."""
    with np.load(path) as arrays:
        plain = json.loads(arrays["chains"].tobytes())
        return Reference(*([_chain(item, arrays) for item in plain[name]] for name in ("proof", "golden", "timed")))


def _plain(chain: Chain, arrays: dict[str, Array]) -> dict[str, Any]:
    def keep(array: Array) -> str:
        name = f"a{len(arrays)}"
        arrays[name] = array
        return name

    return {
        "text": chain.text,
        "steps": [
            {
                "graph": step.graph,
                "inputs": {
                    name: [source.step, source.output] if isinstance(source, StepOutput) else keep(source)
                    for name, source in step.inputs.items()
                },
            }
            for step in chain.steps
        ],
        "outputs": [[link.step, link.output] for link in chain.outputs],
        "answer": keep(chain.answer.values),
        "targets": list(chain.answer.targets),
        "begin": chain.answer.begin,
        "question": chain.answer.question,
        "at": list(chain.at),
        "read": [list(sample) for sample in chain.read],
    }


def _chain(plain: dict[str, Any], arrays: Any) -> Chain:
    steps = tuple(
        Step(
            step["graph"],
            {
                name: arrays[source] if isinstance(source, str) else StepOutput(*source)
                for name, source in step["inputs"].items()
            },
        )
        for step in plain["steps"]
    )
    answer = Answer(arrays[plain["answer"]], tuple(plain["targets"]), plain["begin"], plain["question"])
    outputs = tuple(StepOutput(*link) for link in plain["outputs"])
    return Chain(
        plain["text"], steps, outputs, answer, tuple(plain["at"]), tuple(tuple(sample) for sample in plain["read"])
    )
