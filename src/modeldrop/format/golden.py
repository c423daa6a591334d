"""Known inputs and the original's answers, in a manifest: small, and enough to test a variant where it serves.

Text encoders have ``cases``: token ids in, one output. Whatever else a model takes, pictures, sound, or several graphs
that hand tensors on, is told by ``chains``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from modeldrop.format.json_fields import Fields

MAX_TOKEN = 1 << 31
MAX_ELEMENTS = 1 << 24
"""How many elements a known tensor may have once it is unfolded."""

_MAX_KEPT = 1 << 20
_MAX_STEPS = 256
_MAX_RANK = 8
DTYPES = ("bool", "float16", "float32", "int32", "int64")


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """A known input and the original's answer.

    Attributes:
        text: what was tokenized.
        inputs: per graph input, the token ids of a batch of one.
        values: the original's output, flattened.
    """

    text: str
    inputs: Mapping[str, tuple[int, ...]]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TensorValue:
    """A known tensor.

    Attributes:
        dtype: one of ``DTYPES``.
        shape: its dimensions, the batch of one included.
        values: its elements, flattened; or those of ``grid``.
        grid: where ``values`` are a coarse grid: its shape, each dimension a divisor of the tensor's. Every value is
            repeated as often as fits, so that a picture or a second of sound takes few numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...]
    grid: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StepOutput:
    """A tensor that an earlier step of the same chain has computed."""

    step: int
    output: str


StepInput: TypeAlias = TensorValue | StepOutput


@dataclass(frozen=True, slots=True)
class GoldenStep:
    """One run of one graph: the graph's role in the variant, and where its inputs come from."""

    graph: str
    inputs: Mapping[str, StepInput]


@dataclass(frozen=True, slots=True)
class GoldenChain:
    """Runs of graphs one after the other, and the original's answer.

    The answer are the outputs named, without their batch dimension, as rows one below the other.

    Attributes:
        text: what people are shown: the text, or what the picture or sound is.
        steps: the runs.
        outputs: which outputs make up the answer.
        at: the positions of the last dimension that are kept; () for all.
        shape: the answer's, of the positions that are kept.
        values: the original's answer, flattened.
        targets: for generators, by row the index (in ``at``, where given) of the token that comes next.
        begin: the first row whose next token is the original's own choice.
    """

    text: str
    steps: tuple[GoldenStep, ...]
    outputs: tuple[StepOutput, ...]
    at: tuple[int, ...]
    shape: tuple[int, ...]
    values: tuple[float, ...]
    targets: tuple[int, ...] = ()
    begin: int = 0


@dataclass(frozen=True, slots=True)
class Golden:
    """Known inputs and the original's outputs, to test a variant where it serves.

    ``output`` names the graph output that the values of ``cases`` belong to; ``metrics`` holds, per variant, the
    figures it reached on these cases and chains on the building machine.
    """

    output: str
    cases: tuple[GoldenCase, ...]
    metrics: Mapping[str, Mapping[str, float]]
    chains: tuple[GoldenChain, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """What people are shown of every known input, cases first."""
        return (*(case.text for case in self.cases), *(chain.text for chain in self.chains))


def read_golden(fields: Fields) -> Golden:
    """Read it from a manifest's fields.

    Raises:
        FormatError: naming the field that is wrong.
    """
    metrics = fields.child("metrics", optional=True)
    return Golden(
        output=fields.text("output", limit=1024),
        cases=tuple(_case(item) for item in fields.children("cases", limit=256)),
        metrics={name: _numbers(metrics.child(name)) for name in metrics.names()},
        chains=tuple(_chain(item) for item in fields.children("chains", limit=256, optional=True)),
    )


def golden_json(golden: Golden) -> dict[str, Any]:
    """As plain values, for a manifest."""
    plain: dict[str, Any] = {
        "output": golden.output,
        "cases": [
            {
                "text": case.text,
                "inputs": {name: list(ids) for name, ids in case.inputs.items()},
                "values": list(case.values),
            }
            for case in golden.cases
        ],
        "metrics": {name: dict(values) for name, values in golden.metrics.items()},
    }
    if golden.chains:
        plain["chains"] = [chain_json(chain) for chain in golden.chains]
    return plain


def chain_json(chain: GoldenChain) -> dict[str, Any]:
    """One chain as plain values."""
    plain: dict[str, Any] = {
        "text": chain.text,
        "steps": [
            {"graph": step.graph, "inputs": {name: _source_json(source) for name, source in step.inputs.items()}}
            for step in chain.steps
        ],
        "outputs": [_source_json(link) for link in chain.outputs],
        "shape": list(chain.shape),
        "values": list(chain.values),
    }
    if chain.at:
        plain["at"] = list(chain.at)
    if chain.targets:
        plain["targets"] = list(chain.targets)
        plain["begin"] = chain.begin
    return plain


def _case(fields: Fields) -> GoldenCase:
    inputs = fields.child("inputs")
    return GoldenCase(
        text=fields.text("text"),
        inputs={name: inputs.integers(name, low=0, high=MAX_TOKEN, limit=1 << 20) for name in inputs.names()},
        values=fields.numbers("values", limit=_MAX_KEPT),
    )


def _chain(fields: Fields) -> GoldenChain:
    steps: list[GoldenStep] = []
    for item in fields.children("steps", limit=_MAX_STEPS):
        inputs = item.child("inputs")
        steps.append(
            GoldenStep(
                graph=item.text("graph", limit=64),
                inputs={name: _source(inputs.child(name), len(steps)) for name in inputs.names()},
            )
        )
    chain = GoldenChain(
        text=fields.text("text"),
        steps=tuple(steps),
        outputs=tuple(_link(item, len(steps)) for item in fields.children("outputs", limit=_MAX_STEPS)),
        at=_sizes(fields, "at", _MAX_KEPT) if fields.has("at") else (),
        shape=_sizes(fields, "shape"),
        values=fields.numbers("values", limit=_MAX_KEPT),
        targets=_sizes(fields, "targets", _MAX_KEPT) if fields.has("targets") else (),
        begin=fields.integer("begin", low=0, high=_MAX_KEPT, default=0) if fields.has("targets") else 0,
    )
    if not chain.steps or not chain.outputs:
        fields.fail("needs a step and an output", "steps" if not chain.steps else "outputs")
    if not chain.shape or 0 in chain.shape or len(chain.values) != math.prod(chain.shape):
        fields.fail(f"has {len(chain.values)} values; shape asks for another number", "values")
    width = chain.shape[-1]
    if chain.at and len(chain.at) != width:
        fields.fail(f"has {len(chain.at)} positions; shape keeps {width}", "at")
    if chain.targets and (len(chain.targets) != len(chain.values) // width or max(chain.targets) >= width):
        fields.fail("must name one kept position for each row", "targets")
    if chain.begin >= max(len(chain.targets), 1):
        fields.fail("must be a row of the answer", "begin")
    return chain


def _source(fields: Fields, step: int) -> StepInput:
    if fields.has("output"):
        return _link(fields, step)
    dtype = fields.text("dtype", limit=64)
    if dtype not in DTYPES:
        fields.fail(f"{dtype!r} is not a type of known tensors; they are: {', '.join(DTYPES)}", "dtype")
    values: tuple[float, ...]
    if dtype.startswith("float"):
        values = fields.numbers("values", limit=_MAX_KEPT)
    else:
        values = fields.integers("values", low=-MAX_TOKEN, high=MAX_TOKEN, limit=_MAX_KEPT)
    literal = TensorValue(dtype, _sizes(fields, "shape"), values, _sizes(fields, "grid") if fields.has("grid") else ())
    if math.prod(literal.shape) > MAX_ELEMENTS:
        fields.fail(f"has more than {MAX_ELEMENTS} elements", "shape")
    if literal.grid and (
        len(literal.grid) != len(literal.shape)
        or any(part < 1 or whole % part for part, whole in zip(literal.grid, literal.shape, strict=True))
    ):
        fields.fail("does not divide the tensor's shape", "grid")
    if len(values) != math.prod(literal.grid or literal.shape):
        fields.fail(
            f"has {len(values)} values; its shape asks for {math.prod(literal.grid or literal.shape)}", "values"
        )
    return literal


def _link(fields: Fields, steps: int) -> StepOutput:
    if not steps:
        fields.fail("there is no step before this one", "step")
    return StepOutput(fields.integer("step", low=0, high=steps - 1), fields.text("output", limit=1024))


def _source_json(source: StepInput) -> dict[str, Any]:
    if isinstance(source, StepOutput):
        return {"step": source.step, "output": source.output}
    plain = {"dtype": source.dtype, "shape": list(source.shape), "values": list(source.values)}
    if source.grid:
        plain["grid"] = list(source.grid)
    return plain


def _sizes(fields: Fields, name: str, limit: int = _MAX_RANK) -> tuple[int, ...]:
    return fields.integers(name, low=0, high=MAX_TOKEN, limit=limit)


def _numbers(fields: Fields) -> dict[str, float]:
    return {name: fields.number(name) for name in fields.names()}
