"""What the build and its workers tell each other: the request and the answer of every worker, and how they are JSON.

A request is written into a file that the worker is started with, its answer into one beside it, and what happens
meanwhile goes through a pipe. Both sides read them by these classes: a key too many, one that is missing, or a value
of another type is an error at once, not a surprise later.
"""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from modeldrop.export.inputs import Sample
from modeldrop.export.own_metric import OwnMetric
from modeldrop.format.manifest import Embedding, SearchStep, Tensor
from modeldrop.format.recipe import Threshold

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder of weights, and how it may be loaded.

    Attributes:
        folder: where it is.
        task: what it is to do, by the Hub's name.
        max_length: tokens a text is cut to, or None for the model's own limit.
        truncate_dim: how many numbers of a vector a further output has, or None for no such output.
        opset: version of ONNX's operators to export with, or None for the one that suits the model.
        allow_pickle: whether pickles may be loaded.
        trust_remote_code: whether its own Python code may run.
        exporter: the library that makes the graphs.
    """

    folder: Path
    task: str
    max_length: int | None = None
    truncate_dim: int | None = None
    opset: int | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    exporter: str = "optimum"

    def read(self, name: str) -> Mapping[str, Any]:
        """One of its JSON files; {} where there is none."""
        path = self.folder / name
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericSettings:
    """What is known of a generic model that is to be taken as it is, or converted.

    Attributes:
        framework: what it was saved by; ``ONNX`` for ready graphs.
        file: the path of what a framework saved, or of the code of a torch module, in the source's folder; "" for
            ready graphs.
        function: what makes the torch module, in that file; "" for others.
        state_dict: the recipe's file of its weights.
        dynamic_shapes: the names of its inputs' free dimensions, as in the recipe.
        roles: of its graphs.
        variant: the variant that these are.
        inputs: the recipe's file of inputs; None to draw them from the signature.
        further: whether somebody reads what stands beside the inputs in that file: an own metric.
    """

    framework: str
    file: str
    function: str = ""
    state_dict: Path | None = None
    dynamic_shapes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    roles: tuple[str, ...]
    variant: str
    inputs: Path | None
    further: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """Asks ``export``, ``adopt``, ``adopt_openvino`` and ``generic`` for a model's graphs and the original's answers.

    Attributes:
        checkpoint: the model.
        output: the version's folder.
        reference: a file to write the original's answers into, for ``search`` and ``verify``.
        samples: what it is run on; () for built-in pictures and recordings.
        golden: indices of the samples whose answers the manifest keeps.
        openvino: whether variants are made for OpenVINO.
        beside: whether variants are made while the original answers.
        generic: of a generic model; None for one of any other task.
    """

    checkpoint: Checkpoint
    output: Path
    reference: Path
    samples: tuple[Sample, ...]
    golden: tuple[int, ...]
    openvino: bool
    beside: bool
    generic: GenericSettings | None = None


@dataclass(frozen=True, slots=True)
class OpenVinoTokenizer:
    """The tokenizer's form for OpenVINO.

    Attributes:
        files: paths in the version; () where there is none.
        lacks: why there is no tokenizer, or no detokenizer; "" where there is.
        made_by: the libraries that made the files.
    """

    files: tuple[str, ...] = ()
    lacks: str = ""
    made_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportAnswer:
    """What a manifest records about the original, and the software that exported it.

    Attributes:
        labels: names of the classes, by index.
        columns: names of the columns of the only input, where that is a matrix and they have some.
        max_length: tokens that a text is cut to.
        embedding: how it embeds; None where sentences have no vector.
        framework: what the original was run by.
        speed: milliseconds of one input and of a batch of 32.
        openvino_tokenizer: see there.
        environment: releases of all packages that the build stands on.
        toolchain: releases of the libraries that did the work.
        weight_bytes: bytes of the original's weights, where its files do not tell; else 0.
    """

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    max_length: int | None
    embedding: Embedding | None
    framework: str
    speed: tuple[float, float]
    openvino_tokenizer: OpenVinoTokenizer
    environment: Mapping[str, str]
    toolchain: Mapping[str, str]
    weight_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest:
    """Asks ``quantize`` for variants of the graphs that lie in the version already.

    Attributes:
        output: the version's folder.
        roles: of the graphs.
        origin: the variant that they are.
        variants: names of those to make.
        optional: those of them that may fail.
        keep: by variant, patterns of the names of nodes that stay as they are.
        calibration: the recipe's file.
        external_data: the recipe's.
        ready: whether the graphs came from the source as they are.
    """

    output: Path
    roles: tuple[str, ...]
    origin: str
    variants: tuple[str, ...]
    optional: tuple[str, ...]
    keep: Mapping[str, tuple[str, ...]]
    calibration: Path | None
    external_data: str
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphDescription:
    """What a manifest records about a graph.

    Attributes:
        opset: of ONNX's operators, or of OpenVINO's operations.
        ir_version: of the file's format.
        inputs: in their order.
        outputs: in their order.
        external: names of the files beside it that hold its weights.
        operators: what it is made of, as ``onnx_files.operators_of`` spells them.
    """

    opset: int
    ir_version: int
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    external: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeVariants:
    """What ``quantize`` and ``search`` have made.

    Attributes:
        graphs: by variant and role.
        toolchain: releases of the libraries that did it.
        searches: by variant, how it was searched for.
        dropped: by variant, why an optional one could not be made.
    """

    graphs: Mapping[str, Mapping[str, GraphDescription]]
    toolchain: Mapping[str, str] = field(default_factory=dict)
    searches: Mapping[str, tuple[SearchStep, ...]] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What variants are compared on, and by: the same for those that search and for those that prove.

    Attributes:
        reference: the file with the original's answers.
        task: what the model does.
        problem: what its scores mean; see ``family.problem_of``.
        texts: whether the inputs are texts, which tokenizer.json must cut as the original tokenizer did.
        metric: the recipe's own.
        samples: what the own metric gets; () for built-in pictures and recordings.
    """

    reference: Path
    task: str
    problem: str
    texts: bool
    metric: OwnMetric | None
    samples: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """Asks ``search`` for the smallest 8-bit variants that meet their thresholds.

    Attributes:
        output: the version's folder.
        roles: of the graphs in fp32.
        variants: names of those to search for.
        keep: by variant, patterns of the names of nodes that stay as they are.
        thresholds: by variant and metric; those of the own metric too.
        external_data: the recipe's.
        comparison: see there.
    """

    output: Path
    roles: tuple[str, ...]
    variants: tuple[str, ...]
    keep: Mapping[str, tuple[str, ...]]
    thresholds: Mapping[str, Mapping[str, Threshold]]
    external_data: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class VariantFolder:
    """A folder with nothing but a variant's files, and the paths of its graphs in it by role."""

    folder: Path
    graphs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """Asks ``verify`` to compare and time variants."""

    variants: Mapping[str, VariantFolder]
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How a variant compares with the original.

    Attributes:
        metrics: over all inputs.
        worst: by metric, the index of the input where it was worst, and the value there.
        golden: the metrics of what the manifest keeps.
        speed: milliseconds of one input and of a batch of 32.
    """

    metrics: Mapping[str, float]
    worst: Mapping[str, tuple[int, float]]
    golden: Mapping[str, float]
    speed: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyAnswer:
    """What a manifest records about all variants.

    Attributes:
        variants: by name.
        inputs: what people are shown of every input.
        original_metrics: the own metric's figures of the original.
        golden: known inputs and answers as a manifest has them: ``format.golden`` reads and checks them.
    """

    variants: Mapping[str, Measurement]
    inputs: tuple[str, ...]
    original_metrics: Mapping[str, float]
    golden: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Asks ``compare`` to ask two versions of a model the same, and to time them in turn.

    Attributes:
        before: the folder of a version, complete.
        after: that of another one.
        texts: what encoders of texts are asked; others are asked the known inputs of the manifests.
    """

    before: Path
    after: Path
    texts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class TimedVariant:
    """Milliseconds of one input, and of a batch of 32 where the model can be asked one; of a variant, here and now."""

    one: float
    batch: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedAnswer:
    """What a variant of two versions answers to the same input.

    Attributes:
        variant: its name.
        number: which input, from 1.
        text: what people are shown of the input.
        difference: how far apart: 0 for the same.
        before, after: the answers in a few words; "" where they are vectors.
    """

    variant: str
    number: int
    text: str
    difference: float
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareAnswer:
    """How two versions compare.

    Attributes:
        inputs: how many both were asked.
        before: the latencies of the first version's variants, by name.
        after: those of the second one's.
        answers: by variant those that differ most, the furthest first.
        problems: what could not be compared, and why.
    """

    inputs: int
    before: Mapping[str, TimedVariant]
    after: Mapping[str, TimedVariant]
    answers: tuple[ChangedAnswer, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """Asks ``measure`` what an own metric gives of two versions of a generic model.

    Attributes:
        new: the folder of a version, complete.
        current: that of another one.
        inputs: the recipe's file, with what the metric reads.
        metric: the recipe's own.
    """

    new: Path
    current: Path
    inputs: Path
    metric: OwnMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureAnswer:
    """The metric's figures of both."""

    new: Mapping[str, float]
    current: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Asks ``report`` to write report.html beside the manifest.json in a folder; there is no answer."""

    folder: Path


@dataclass(frozen=True, slots=True)
class Failure:
    """What a worker raised: the class in ``errors``, its message and hint, and the traceback."""

    error: str
    message: str
    hint: str
    details: str


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Progress of a worker: one of these.

    Attributes:
        step: a part of the work that begins.
        done: how much of the present part is done.
        total: of how much; 0 where this is not told.
        inputs: on how many inputs variants are compared.
    """

    step: str = ""
    done: int = 0
    total: int = 0
    inputs: int = 0


WorkerRequest: TypeAlias = (
    ExportRequest
    | QuantizeRequest
    | SearchRequest
    | VerifyRequest
    | CompareRequest
    | MeasureRequest
    | ReportRequest
    | OwnMetric
)


def to_json(value: object) -> Any:
    """A message, or a part of one, as what ``json`` writes."""
    if names := _names(value):
        return {name: to_json(getattr(value, name)) for name in names}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: to_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    return value


def from_json(kind: type[T], plain: Any) -> T:
    """What ``to_json`` was given: ``from_json(type(x), to_json(x)) == x`` for every message here.

    Args:
        kind: its class, or the type of a part: text, numbers, paths, ``X | None``, tuples and mappings of these.
        plain: what ``json`` read.

    Raises:
        TypeError: it is something else, or has other keys.
    """
    return cast("T", _read(kind, plain))


def _read(kind: Any, plain: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or (plain is None and type(None) in (kind, *arguments)):
        return plain
    if origin in {Union, types.UnionType}:
        (kind,) = (one for one in arguments if one is not type(None))
        return _read(kind, plain)
    if origin is tuple and isinstance(plain, list):
        kinds = (arguments[0],) * len(plain) if arguments[-1] is Ellipsis else arguments
        return tuple(_read(one, part) for one, part in zip(kinds, plain, strict=True))
    if origin is Mapping and isinstance(plain, dict):
        return {key: _read(arguments[1], one) for key, one in plain.items()}
    if isinstance(plain, dict) and (hints := _hints(kind)):
        if plain.keys() != hints.keys():
            raise TypeError(f"{kind} has {', '.join(hints)}, not {', '.join(plain)}")
        return kind(**{name: _read(hints[name], one) for name, one in plain.items()})
    if kind is Path and isinstance(plain, str):
        return Path(plain)
    if type(plain) is kind or (kind is float and type(plain) is int):
        return plain
    raise TypeError(f"{plain!r:.80} is not {kind}")


def _names(record: Any) -> tuple[str, ...]:
    """The fields of a record or of its class, be it a dataclass or, as the format's are, a named tuple; else ()."""
    return tuple(one.name for one in fields(record)) if is_dataclass(record) else getattr(record, "_fields", ())


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    names = _names(kind)
    # The format's records name Mapping for type checkers alone.
    hints = get_type_hints(kind, None, {"Mapping": Mapping}) if names else {}
    return {name: hints[name] for name in names}
