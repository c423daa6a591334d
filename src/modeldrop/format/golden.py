"""Known inputs and the original's answers, in a manifest: small, and enough to test a variant where it serves.

Text encoders have ``cases``: token ids in, one output. Models that take pictures or sound, or run several graphs one
after the other, have ``chains``. Graphs that were taken as they are have ``examples``: inputs and outputs of any type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from modeldrop.format.codec import (
    ChoiceField,
    Field,
    IntegerField,
    ListField,
    MapField,
    NumberField,
    ObjectField,
    Record,
    TextField,
)
from modeldrop.format.json_fields import Fields
from modeldrop.util.named_tuples import NamedTuple

MAX_TOKEN = 1 << 31
MAX_ELEMENTS = 1 << 24
"""How many elements a known tensor may have, repeated ones included."""
STRING = "string"
"""The type of arrays of strings, which numpy has many names for."""
DTYPES = ("bool", "float16", "float32", "int32", "int64")

_MAX_KEPT = 1 << 20
_MAX_STEPS = 256
_MAX_RANK = 8
_COUNT = IntegerField(low=0, high=MAX_TOKEN)


class GoldenCase(NamedTuple):
    """A known text and the original's answer: per graph input, the token ids of a batch of one; the flat output."""

    text: str
    inputs: Mapping[str, tuple[int, ...]]
    values: tuple[float, ...]


GOLDEN_CASE = Record(
    GoldenCase,
    text=TextField("What was tokenized."),
    inputs=MapField(
        "Per graph input, the token ids of a batch of one.", ListField("Token ids.", _COUNT, limit=_MAX_KEPT)
    ),
    values=ListField("The original's output, flattened.", NumberField(), limit=_MAX_KEPT),
)


class TensorValue(NamedTuple):
    """A known tensor. Where a grid is given, the values are its, and each is repeated to fill the shape.

    So a picture or a second of sound takes few numbers. The dimensions of ``grid`` divide the tensor's.
    """

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...]
    grid: tuple[int, ...] = ()


class ElementsField(ListField):
    """The elements of a tensor: whole numbers, unless its ``dtype``, which is read before, is a float."""

    def __init__(self, description: str) -> None:
        super().__init__(description, NumberField(), limit=_MAX_KEPT)

    def read(self, fields: Fields, name: str) -> tuple[Any, ...]:
        if str(fields.value("dtype")).startswith("float"):
            return super().read(fields, name)
        return fields.integers(name, low=-MAX_TOKEN, high=MAX_TOKEN, limit=self.limit)


def _check_tensor(fields: Fields, tensor: TensorValue) -> None:
    if math.prod(tensor.shape) > MAX_ELEMENTS:
        fields.fail(f"has more than {MAX_ELEMENTS} elements", "shape")
    if tensor.grid and (
        len(tensor.grid) != len(tensor.shape)
        or any(part < 1 or whole % part for part, whole in zip(tensor.grid, tensor.shape, strict=True))
    ):
        fields.fail("does not divide the tensor's shape", "grid")
    count = math.prod(tensor.grid or tensor.shape)
    if len(tensor.values) != count:
        fields.fail(f"has {len(tensor.values)} values; its shape needs {count}", "values")


TENSOR_VALUE = Record(
    TensorValue,
    check=_check_tensor,
    dtype=ChoiceField("Type of the elements.", DTYPES, "a type of known tensors"),
    shape=ListField("Dimensions, the batch of one included.", _COUNT, limit=_MAX_RANK),
    values=ElementsField("The elements, flattened; whole numbers between -2^31 and 2^31 but for the floats."),
    grid=ListField(
        "Shape of the values where they are coarser than the tensor; each number a divisor of the shape's.",
        _COUNT,
        limit=_MAX_RANK,
        default=(),
        omit=True,
    ),
)


class StepOutput(NamedTuple):
    """A tensor that an earlier step of the same chain has computed."""

    step: int
    output: str


STEP_OUTPUT = Record(
    StepOutput,
    step=IntegerField("Which step, from 0.", low=0, high=_MAX_STEPS - 1),
    output=TextField("The output's name.", limit=1024),
)

StepInput: TypeAlias = TensorValue | StepOutput


class StepInputField(Field):
    """What a graph gets: the output of an earlier step where an ``output`` is named, else a tensor."""

    def read(self, fields: Fields, name: str) -> StepInput:
        inner = fields.child(name)
        return STEP_OUTPUT.read(inner) if inner.has("output") else TENSOR_VALUE.read(inner)

    def write(self, value: StepInput) -> dict[str, Any]:
        return STEP_OUTPUT.write(value) if isinstance(value, StepOutput) else TENSOR_VALUE.write(value)


class GoldenStep(NamedTuple):
    """One run of one graph: the graph's role in the variant, and where its inputs come from."""

    graph: str
    inputs: Mapping[str, StepInput]


GOLDEN_STEP = Record(
    GoldenStep,
    graph=TextField("Role of the graph in the variant.", limit=64),
    inputs=MapField("Where each input comes from.", StepInputField()),
)


class GoldenChain(NamedTuple):
    """Runs of graphs one after the other, and the original's answer.

    The answer are the named outputs without their batch dimension, as rows one below the other, of which only those of
    the numbers ``rows`` and of these only the positions ``at`` are kept (all where they are empty). Of generators,
    ``targets`` has by row the index of the next token (in ``at``, where given), and ``begin`` is the first row whose
    next token is the original's own choice.
    """

    text: str
    steps: tuple[GoldenStep, ...]
    outputs: tuple[StepOutput, ...]
    at: tuple[int, ...]
    shape: tuple[int, ...]
    values: tuple[float, ...]
    targets: tuple[int, ...] = ()
    begin: int = 0
    rows: tuple[int, ...] = ()


def _check_chain(fields: Fields, chain: GoldenChain) -> None:
    for index, step in enumerate(chain.steps):
        for name, source in step.inputs.items():
            if isinstance(source, StepOutput) and source.step >= index:
                fields.fail(f"{source.step} is not a step before this one", f"steps[{index}].inputs.{name}.step")
    for index, output in enumerate(chain.outputs):
        if output.step >= len(chain.steps):
            fields.fail(f"there is no step {output.step}", f"outputs[{index}].step")
    if 0 in chain.shape or len(chain.values) != math.prod(chain.shape):
        fields.fail(f"has {len(chain.values)} values; the shape needs {math.prod(chain.shape)}", "values")
    width = chain.shape[-1]
    if chain.at and len(chain.at) != width:
        fields.fail(f"has {len(chain.at)} positions; the shape keeps {width}", "at")
    if chain.rows and len(chain.rows) * width != len(chain.values):
        fields.fail(f"has {len(chain.rows)} rows; the shape keeps {len(chain.values) // width}", "rows")
    if chain.targets and (len(chain.targets) != len(chain.values) // width or max(chain.targets) >= width):
        fields.fail("must name one kept position for each row", "targets")
    if chain.begin >= max(len(chain.targets), 1):
        fields.fail("must be a row of the answer", "begin")


GOLDEN_CHAIN = Record(
    GoldenChain,
    check=_check_chain,
    text=TextField("What people are shown: the text, or what the picture or sound is."),
    steps=ListField("The runs.", ObjectField(GOLDEN_STEP), limit=_MAX_STEPS, minimum=1),
    outputs=ListField("Which outputs make up the answer.", ObjectField(STEP_OUTPUT), limit=_MAX_STEPS, minimum=1),
    at=ListField(
        "The positions of the last dimension that are kept; all where absent.",
        _COUNT,
        limit=_MAX_KEPT,
        default=(),
        omit=True,
    ),
    shape=ListField("Shape of the answer, of the positions that are kept.", _COUNT, limit=_MAX_RANK, minimum=1),
    values=ListField("The original's answer, flattened.", NumberField(), limit=_MAX_KEPT),
    targets=ListField(
        "For generators, by row the index of the token that comes next.",
        _COUNT,
        limit=_MAX_KEPT,
        default=(),
        omit=True,
    ),
    begin=IntegerField(
        "The first row whose next token is the original's own choice; 0 where absent.",
        low=0,
        high=_MAX_KEPT,
        default=0,
        omit=lambda chain: not chain.targets,
    ),
    rows=ListField(
        "The rows of the answer that are kept; all where absent.", _COUNT, limit=_MAX_KEPT, default=(), omit=True
    ),
)


class KnownArray(NamedTuple):
    """A known input or output of any type.

    Attributes:
        dtype: numpy's name of the type, or ``string``.
        shape: of the whole.
        values: the elements; () where ``texts`` has them: strings, and numbers where one of them is not finite.
        texts: see there.
        grid: shape of the elements where each is repeated to fill the shape, as in ``TensorValue``.
        every: where this is more than 1, only each of so many elements is kept, of the flattened array.
    """

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    grid: tuple[int, ...] = ()
    every: int = 1


def _check_array(fields: Fields, array: KnownArray) -> None:
    if math.prod(array.shape) > MAX_ELEMENTS:
        fields.fail(f"has more than {MAX_ELEMENTS} elements", "shape")
    if array.grid and (
        len(array.grid) != len(array.shape)
        or any(part < 1 or whole % part for part, whole in zip(array.grid, array.shape, strict=True))
    ):
        fields.fail("does not divide the array's shape", "grid")
    count = -(-math.prod(array.grid or array.shape) // array.every)
    if len(array.texts or array.values) != count:
        fields.fail(f"has {len(array.texts or array.values)} values; its shape needs {count}", "values")


class AnyElementsField(ListField):
    """The elements of an array: whole numbers of up to 64 bits, unless its ``dtype`` is a float."""

    def read(self, fields: Fields, name: str) -> tuple[Any, ...]:
        if str(fields.value("dtype")).startswith("float"):
            return super().read(fields, name)
        return fields.integers(name, low=-(1 << 63), high=1 << 64, limit=self.limit, default=())


KNOWN_ARRAY = Record(
    KnownArray,
    check=_check_array,
    dtype=TextField("Type of the elements, as numpy calls it, or string.", limit=64),
    shape=ListField("Dimensions.", _COUNT, limit=_MAX_RANK),
    values=AnyElementsField(
        "The elements, flattened.", NumberField(), limit=_MAX_KEPT, default=(), omit=lambda array: bool(array.texts)
    ),
    texts=ListField(
        "The elements as texts: strings, and numbers of an array of which some are not finite.",
        TextField(limit=_MAX_KEPT),
        limit=_MAX_KEPT,
        default=(),
        omit=True,
    ),
    grid=ListField(
        "Shape of the elements where they are coarser than the array; each number a divisor of the shape's.",
        _COUNT,
        limit=_MAX_RANK,
        default=(),
        omit=True,
    ),
    every=IntegerField(
        "Only each of so many elements is kept, of the flattened array, from the first on; 1 where absent.",
        low=1,
        high=MAX_ELEMENTS,
        default=1,
        omit=True,
    ),
)


class ExampleStep(NamedTuple):
    """One run of one graph: its role in the variant, what it gets, and what the original answers, by name."""

    graph: str
    inputs: Mapping[str, KnownArray]
    outputs: Mapping[str, KnownArray]


EXAMPLE_STEP = Record(
    ExampleStep,
    graph=TextField("Role of the graph in the variant.", limit=64),
    inputs=MapField("What it gets, by input.", ObjectField(KNOWN_ARRAY)),
    outputs=MapField("What the original answers, by output.", ObjectField(KNOWN_ARRAY)),
)


class GoldenExample(NamedTuple):
    """A known input of graphs that were taken as they are: each is run by itself."""

    text: str
    steps: tuple[ExampleStep, ...]


GOLDEN_EXAMPLE = Record(
    GoldenExample,
    text=TextField("What people are shown."),
    steps=ListField("The graphs that it is for.", ObjectField(EXAMPLE_STEP), limit=_MAX_STEPS, minimum=1),
)


class Golden(NamedTuple):
    """Known inputs and the original's outputs, to test a variant where it serves.

    ``output`` names the main output: that which the values of ``cases``, and the answers of ``chains``, belong to.
    ``metrics`` holds, per variant, the figures it reached on these cases and chains on the building machine.
    """

    output: str
    cases: tuple[GoldenCase, ...]
    metrics: Mapping[str, Mapping[str, float]]
    chains: tuple[GoldenChain, ...] = ()
    examples: tuple[GoldenExample, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """What people are shown of every known input, cases first."""
        known: tuple[GoldenCase | GoldenChain | GoldenExample, ...] = (*self.cases, *self.chains, *self.examples)
        return tuple(one.text for one in known)


GOLDEN = Record(
    Golden,
    output=TextField("The main output: what the values of cases, and the answers of chains, belong to.", limit=1024),
    cases=ListField("The cases.", ObjectField(GOLDEN_CASE), limit=256),
    metrics=MapField(
        "Per variant, the figures it reached on these inputs on the building machine.",
        MapField("Figures by metric.", NumberField()),
        default={},
    ),
    chains=ListField(
        "Known inputs of models that take more than token ids, or have several graphs.",
        ObjectField(GOLDEN_CHAIN),
        limit=256,
        default=(),
        omit=True,
    ),
    examples=ListField(
        "Known inputs of graphs that were taken as they are, of any type.",
        ObjectField(GOLDEN_EXAMPLE),
        limit=256,
        default=(),
        omit=True,
    ),
)
