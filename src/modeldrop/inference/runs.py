"""Runs of a variant's graphs: how every kind of model is run, wherever a variant is compared.

A run is a number of steps, each of one graph, which may be handed what earlier steps have computed: an encoder's is a
single step, a translator's is one of its encoder and one of its decoder for every token. A manifest has known runs as
``cases`` (a single step) and ``chains``; those of graphs that were taken as they are, whose steps are each by
themselves, as ``examples``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from modeldrop.format.golden import (
    DTYPES,
    STRING,
    GoldenCase,
    GoldenChain,
    GoldenExample,
    KnownArray,
    StepOutput,
    TensorValue,
)

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"

_DTYPES = {f"tensor({name})": name for name in DTYPES}  # of others, the one in fp32 is tensor(float)


@dataclass(frozen=True, slots=True)
class RunStep:
    """One graph, by its role, is run once; its inputs are arrays, or what an earlier step has computed."""

    graph: str
    inputs: Mapping[str, Array | StepOutput]


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What the original answers, or a variant.

    Attributes:
        values: without the batch: [width], or [rows, width].
        targets: for generators, by row the index in the last dimension of the token that comes next.
        begin: the first row whose next token is the original's own choice; those before belong to a given text.
        question: for rerankers, the number of the question: passages are put in order for each question alone.
        named: of graphs that were taken as they are, every output whole, by name; ``values`` is empty then.
        beside: what is compared besides, by the name of the output: [tokens, width], as a batch of one text gives it.
    """

    values: Array
    targets: tuple[int, ...] = ()
    begin: int = 0
    question: int = 0
    named: Mapping[str, Array] = field(default_factory=dict)
    beside: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelRun:
    """Steps one after the other, and the original's answer.

    Attributes:
        text: what people are shown.
        steps: in their order.
        outputs: which outputs make up the answer, as rows one below the other.
        answer: the original's.
        at: the positions of the outputs' last dimension that the answer keeps; () for all.
        rows: the rows that the answer keeps, by number; () for all.
        read: what a tokenizer makes the first step's token ids of: a batch of texts, or of pairs; () without tokens.
        every: of named outputs that are not kept whole, which elements are: each of so many, of the flattened array.
        whole: the shapes that those outputs have.
        fields: what an own metric gets of the input; {} for its name alone.
    """

    text: str
    steps: tuple[RunStep, ...]
    outputs: tuple[StepOutput, ...]
    answer: ModelAnswer
    at: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    read: tuple[tuple[str, ...], ...] = ()
    every: Mapping[str, int] = field(default_factory=dict)
    whole: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


class OpenVariant(ABC):
    """A variant's graphs, open on the CPU."""

    @abstractmethod
    def dtypes(self, graph: str) -> dict[str, str]:
        """The types of a graph's inputs, as numpy calls them, by name."""

    @abstractmethod
    def lacking(self, step: RunStep) -> list[str]:
        """The inputs that the step's graph wants and is not given."""

    @abstractmethod
    def run(self, steps: Sequence[RunStep]) -> list[dict[str, Any]]:
        """The outputs of every step, by name: arrays, but for what a graph of any kind may answer besides."""

    def answer(self, run: ModelRun) -> Any:
        """What the variant answers where the original answers ``run.answer``: an array, or arrays by name as there."""
        return answer_in(self.run(run.steps), run)


def answer_in(results: Sequence[Mapping[str, Any]], run: ModelRun) -> Any:
    """The same of what the steps of a run have answered."""
    if run.answer.named:
        return thinned(named_outputs([step.graph for step in run.steps], results), run.every)
    return answer_of([results[output.step][output.output][0] for output in run.outputs], run)


class OnnxVariant(OpenVariant):
    """A variant of ONNX graphs, run by onnxruntime; see ``inference.open_variant``."""

    def __init__(self, folder: Path, graphs: Mapping[str, str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._sessions: dict[str, onnxruntime.InferenceSession] = {
            role: onnxruntime.InferenceSession(folder / path, options, providers=["CPUExecutionProvider"])
            for role, path in graphs.items()
        }

    def dtypes(self, graph: str) -> dict[str, str]:
        return {tensor.name: _DTYPES.get(tensor.type, "float32") for tensor in self._sessions[graph].get_inputs()}

    def lacking(self, step: RunStep) -> list[str]:
        return sorted(set(self.dtypes(step.graph)) - set(step.inputs))

    def run(self, steps: Sequence[RunStep]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for step in steps:
            session = self._sessions[step.graph]
            inputs = {
                name: results[source.step][source.output] if isinstance(source, StepOutput) else source
                for name, source in step.inputs.items()
            }
            names = [tensor.name for tensor in session.get_outputs()]
            results.append(dict(zip(names, session.run(names, inputs), strict=True)))
        return results


def named_outputs(graphs: Sequence[str], results: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """The outputs of steps as arrays by name; with the graph before the name where there are several graphs.

    Sequences and maps become arrays too: of maps with numbers for labels, a matrix with a column for each label.

    Args:
        graphs: the role of each step's graph.
        results: what each step has answered.
    """
    found: dict[str, Array] = {}
    for graph, outputs in zip(graphs, results, strict=True):
        before = f"{graph}/" if len(set(graphs)) > 1 else ""
        for name, value in outputs.items():
            found |= _arrays(f"{before}{name}", value)
    return found


def _arrays(name: str, value: Any) -> dict[str, Array]:
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        labels = sorted({label for one in value for label in one}, key=lambda label: (str(type(label)), label))
        return {name: np.array([[one.get(label, np.nan) for label in labels] for one in value])}
    if isinstance(value, list):
        return {
            key: array for number, one in enumerate(value) for key, array in _arrays(f"{name}[{number}]", one).items()
        }
    array = np.asarray("" if value is None else value)
    # onnxruntime gives strings as Python's objects.
    return {name: array.astype(np.str_) if array.dtype == object else array}


def thinned(named: Mapping[str, Array], every: Mapping[str, int]) -> dict[str, Array]:
    """Outputs, of which some are not kept whole; see ``ModelRun.every``."""
    return {name: array.ravel()[:: every[name]] if name in every else array for name, array in named.items()}


def answer_of(outputs: Sequence[Array], run: ModelRun) -> Array:
    """Outputs without their batch, as the answer that a run keeps of them."""
    values = rows(outputs)
    if run.rows:
        values = values[list(run.rows)]
    return values[..., list(run.at)] if run.at else values


def rows(outputs: Sequence[Array]) -> Array:
    """Outputs without their batch, as one.

    One alone keeps its shape, but that what is beyond its first dimension becomes one, and vanishes where it is one
    number: a map of features. Several become rows, or where they are of different widths columns beside each other.
    """
    if len(outputs) == 1:
        (values,) = outputs
        if values.ndim > 2:
            values = values.reshape(len(values), -1)
            values = values[:, 0] if values.shape[1] == 1 else values
    elif len({output.shape[-1] for output in outputs}) > 1:
        values = np.concatenate(outputs, axis=-1)
    else:
        values = np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs])
    return values


def from_case(case: GoldenCase, output: str, graph: str, dtypes: Mapping[str, str]) -> ModelRun:
    """The run of a known input of a text encoder; ``values`` of its answer are flat."""
    inputs = {name: np.array([ids], dtypes.get(name)) for name, ids in case.inputs.items()}
    answer = ModelAnswer(np.array(case.values, np.float64))
    return ModelRun(case.text, (RunStep(graph, inputs),), (StepOutput(0, output),), answer)


def from_golden(known: GoldenChain) -> ModelRun:
    """The run of a manifest's known input, its tensors unfolded."""
    steps = tuple(
        RunStep(
            step.graph,
            {
                name: source if isinstance(source, StepOutput) else unfold(source)
                for name, source in step.inputs.items()
            },
        )
        for step in known.steps
    )
    values = np.array(known.values, np.float64).reshape(known.shape)
    answer = ModelAnswer(values, known.targets, known.begin)
    return ModelRun(text=known.text, steps=steps, outputs=known.outputs, answer=answer, at=known.at, rows=known.rows)


def from_example(known: GoldenExample) -> ModelRun:
    """The run of a manifest's known input of graphs that were taken as they are."""
    steps = tuple(
        RunStep(step.graph, {name: unfold(array) for name, array in step.inputs.items()}) for step in known.steps
    )
    outputs = [{name: _expected(array) for name, array in step.outputs.items()} for step in known.steps]
    graphs = [step.graph for step in known.steps]
    every = named_outputs(
        graphs,
        [{name: np.array(array.every) for name, array in step.outputs.items()} for step in known.steps],
    )
    return ModelRun(
        text=known.text,
        steps=steps,
        outputs=(),
        answer=ModelAnswer(np.zeros(0), named=named_outputs(graphs, outputs)),
        every={name: int(number) for name, number in every.items() if number > 1},
    )


def _expected(known: KnownArray) -> Array:
    return _elements(known).reshape(-1 if known.every > 1 else known.shape)


def _elements(known: TensorValue | KnownArray) -> Array:
    texts = known.texts if isinstance(known, KnownArray) else ()
    if known.dtype == STRING:
        return np.array(texts, np.str_)
    return np.array([float(text) for text in texts] if texts else known.values, known.dtype)


def unfold(literal: TensorValue | KnownArray) -> Array:
    """The whole tensor: every value of a coarse grid repeated as often as fits."""
    array = _elements(literal).reshape(literal.grid or literal.shape)
    for axis, (whole, part) in enumerate(zip(literal.shape, literal.grid, strict=False)):
        array = array.repeat(whole // part, axis)
    return array
