"""Manifests: everything about a version, and all that a reader needs to verify it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from modeldrop.format.codec import (
    BooleanField,
    DocumentFormat,
    GroupField,
    IntegerField,
    ListField,
    MapField,
    NumberField,
    ObjectField,
    Record,
    TextField,
    TimeField,
)
from modeldrop.format.golden import GOLDEN, Golden
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import HEX64, NAME, check_distinct, check_path, hex_digest
from modeldrop.format.recipe import RECORDED_RECIPE, Recipe
from modeldrop.util.named_tuples import NamedTuple

MAX_BYTES = 16 << 20
MAX_FILES = 10_000
MAX_FILE_SIZE = 1 << 40
PIECE_SIZE = 1 << 20
MIN_PIECE_SIZE, MAX_PIECE_SIZE = 64 << 10, 1 << 30
MAX_PIECES = 1 << 18
NAMELESS = "?"
"""A free dimension of a tensor that has no name."""
ANY_RANK = "..."
"""The only dimension of a tensor of which not even the number of dimensions is fixed."""
MODEL = "model"
"""The role of a graph that is the whole model."""


class PathField(TextField):
    """A path in a version, which ``names.check_path`` accepts."""

    def read(self, fields: Fields, name: str) -> str:
        return check_path(super().read(fields, name), fields.at(name))


class FilePathField(TextField):
    """A path that the manifest's files have: it was checked there."""


def metrics_field(description: str, **common: Any) -> MapField:
    """Numbers by the names of metrics."""
    return MapField(description, NumberField(), **common)


class File(NamedTuple):
    """A file of a version: SHA-256 for the ecosystem, BLAKE3 of every piece for fetchers, both as 64 digits."""

    path: str
    size: int
    sha256: str
    pieces: tuple[str, ...]


FILE = Record(
    File,
    path=PathField("Its path below the version.", limit=4096),
    size=IntegerField("Bytes.", low=0, high=MAX_FILE_SIZE),
    sha256=TextField("SHA-256 of the file.", pattern=HEX64),
    pieces=ListField(
        "BLAKE3 of every piece in order; as many as size divided by piece_size, rounded up.",
        TextField(pattern=HEX64),
        limit=MAX_PIECES,
    ),
)


class Tensor(NamedTuple):
    """An input or output of a graph: name, element type, and shape with names for what may vary.

    New manifests name types as numpy does; old ones may have ``float`` for ``float32``, and ``double`` for ``float64``.
    ``columns`` are the names of a matrix's columns, () where it has none.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    columns: tuple[str, ...] = ()


TENSOR = Record(
    Tensor,
    name=TextField("Its name.", limit=1024),
    dtype=TextField(
        "Element type by numpy's name, such as float32; earlier releases wrote ONNX's float and double too. Also "
        "string, and such as sequence(map(int64, float32)).",
        limit=64,
    ),
    shape=ListField(
        "Dimensions; a name, or ?, where the size may vary; ... alone where their number may, too.",
        TextField("A number or a name."),
        limit=64,
    ),
    columns=ListField(
        "Names of the columns, of a table as one matrix.", TextField("A name."), limit=100_000, default=(), omit=True
    ),
)


class Speed(NamedTuple):
    """Median latency in milliseconds of one text, and of a batch of 32."""

    batch_1_ms: float
    batch_32_ms: float


SPEED = Record(
    Speed,
    batch_1_ms=NumberField("Milliseconds for one text."),
    batch_32_ms=NumberField("Milliseconds for a batch of 32 texts."),
)
_SPEED_FIELD = ObjectField(SPEED, "Median latency; null where it was not measured.", default=None)


class WorstInput(NamedTuple):
    """The input on which a metric was worst: its text, cut to 200 characters, and the value there."""

    text: str
    value: float


WORST_INPUT = Record(
    WorstInput,
    text=TextField("Its text, cut to 200 characters by the writer."),
    value=NumberField("The value there."),
)


class Fidelity(NamedTuple):
    """How a variant compares with the original, by metric; thresholds as they were applied."""

    metrics: Mapping[str, float]
    thresholds: Mapping[str, float]
    worst: Mapping[str, WorstInput]
    texts: int


FIDELITY = Record(
    Fidelity,
    metrics=metrics_field("Numbers by metric."),
    thresholds=metrics_field("Thresholds as they were applied, by metric.", default={}),
    worst=MapField("Per metric, the input on which it was worst.", ObjectField(WORST_INPUT), default={}),
    texts=IntegerField("How many texts were compared.", low=0, high=1 << 31),
)


class SearchStep(NamedTuple):
    """A step of the search for the smallest variant that meets its thresholds."""

    what: str
    weights: int
    metrics: Mapping[str, float]
    holds: bool


SEARCH_STEP = Record(
    SearchStep,
    what=TextField("How it was made.", limit=256),
    weights=IntegerField("Bytes of its graphs and weights.", low=0, high=MAX_FILE_SIZE),
    metrics=metrics_field("How it compares with the original."),
    holds=BooleanField("Whether it meets the thresholds."),
)


class Graph(NamedTuple):
    """A further graph of a variant: its role (such as ``decoder_model_merged``), path, inputs and outputs."""

    role: str
    path: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


GRAPH = Record(
    Graph,
    role=TextField("What it is in the model, such as decoder_model_merged.", limit=64),
    path=FilePathField("Its path; one of the variant's files."),
    inputs=ListField("Its inputs.", ObjectField(TENSOR), limit=1000),
    outputs=ListField("Its outputs.", ObjectField(TENSOR), limit=1000),
)


class Variant(NamedTuple):
    """One build of the weights.

    ``model`` is the graph that a runtime opens (of several the first one that runs), ``role`` what it is in the model,
    ``others`` the further graphs of a model that has several. ``files`` are all that the variant needs, the tokenizer's
    included. ``speed`` is None where it was not measured, ``search`` empty where the variant is made in one way.
    """

    name: str
    model: str
    files: tuple[str, ...]
    opset: int
    ir_version: int
    min_onnxruntime: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    fidelity: Fidelity
    speed: Speed | None = None
    role: str = MODEL
    others: tuple[Graph, ...] = ()
    search: tuple[SearchStep, ...] = ()

    @property
    def graphs(self) -> dict[str, str]:
        """The path of every graph, by its role; ``model`` first."""
        return {self.role: self.model} | {graph.role: graph.path for graph in self.others}

    @property
    def signature(self) -> dict[str, Graph]:
        """Every graph with its inputs and outputs, by its role; ``model`` first."""
        first = Graph(self.role, self.model, self.inputs, self.outputs)
        return {graph.role: graph for graph in (first, *self.others)}


VARIANT = Record(
    Variant,
    name=TextField("Its name, such as int8.", pattern=NAME),
    model=FilePathField("The graph a runtime opens; one of files."),
    files=ListField(
        "Paths of all files the variant needs, each once; each one is in the manifest's files.",
        FilePathField(),
        limit=MAX_FILES,
        minimum=1,
        unique=True,
    ),
    opset=IntegerField("Version of the default ONNX operator set.", low=1, high=10_000),
    ir_version=IntegerField("Version of the ONNX file format.", low=1, high=10_000),
    min_onnxruntime=TextField("The oldest onnxruntime that loads it.", limit=64),
    inputs=ListField("The graph's inputs, in its order.", ObjectField(TENSOR), limit=1000),
    outputs=ListField(
        "The graph's outputs, in its order; golden.output names the main one.", ObjectField(TENSOR), limit=1000
    ),
    fidelity=ObjectField(FIDELITY),
    speed=_SPEED_FIELD,
    role=TextField(
        "What the graph is in the model: model, or such as encoder_model where there are several.",
        limit=64,
        default=MODEL,
        omit=True,
    ),
    graphs=ListField(
        "The further graphs of a model that has several, each role once.",
        ObjectField(GRAPH),
        limit=64,
        default=(),
        omit=True,
        attribute="others",
    ),
    search=ListField(
        "How it was found, in the order of the tries; absent where it was made in one way.",
        ObjectField(SEARCH_STEP),
        limit=1000,
        default=(),
        omit=True,
    ),
)


class OriginalModel(NamedTuple):
    """The model that the variants are compared with."""

    framework: str
    weight_bytes: int
    speed: Speed | None = None
    metrics: Mapping[str, float] = {}


ORIGINAL_MODEL = Record(
    OriginalModel,
    framework=TextField("Framework and version.", limit=128),
    weight_bytes=IntegerField("Bytes of its weights.", low=0, high=MAX_FILE_SIZE),
    speed=_SPEED_FIELD,
    metrics=metrics_field("What the recipe's own metric gives of the original.", default={}, omit=True),
)


class SourceInfo(NamedTuple):
    """Where the weights came from, "" where unknown, and which weights there are in no graph."""

    identity: str
    repository: str = ""
    commit: str = ""
    licence: str = ""
    gated: bool = False
    left_out: tuple[str, ...] = ()


SOURCE_INFO = Record(
    SourceInfo,
    identity=TextField("What the build key holds.", limit=4096),
    repository=TextField("Repository.", limit=1024, default=""),
    commit=TextField("Commit.", limit=128, default=""),
    licence=TextField("Licence.", limit=256, default=""),
    gated=BooleanField("Whether the Hub gives it only to those who have accepted its terms.", default=False, omit=True),
    left_out=ListField(
        "Paths of the learned weights in the source that are in no graph, such as model_head.pkl.",
        TextField(limit=4096),
        limit=MAX_FILES,
        default=(),
        omit=True,
    ),
)


class Embedding(NamedTuple):
    """How an embedder is asked, and what its vectors are.

    Attributes:
        dimension: how many numbers a vector has.
        similarity: the function that vectors are compared with, such as ``cosine``; "" where the source says none.
        prompts: texts that are put before what is embedded, by name.
        default_prompt: the name of the one for texts where nobody names one; "" for none.
    """

    dimension: int
    similarity: str = ""
    prompts: Mapping[str, str] = {}
    default_prompt: str = ""

    @property
    def prompt(self) -> str:
        """What is put before a text where nobody names a prompt."""
        return self.prompts.get(self.default_prompt, "")


EMBEDDING = Record(
    Embedding,
    dimension=IntegerField("How many numbers a vector has.", low=1, high=1 << 31),
    similarity=TextField("What vectors are compared with, such as cosine.", limit=64, default=""),
    prompts=MapField(
        "Texts that are put before what is embedded, by name.", TextField("A text.", limit=100_000), default={}
    ),
    default_prompt=TextField(
        "The prompt of texts for which none is named; golden inputs have it.", limit=1024, default=""
    ),
)


class Provenance(NamedTuple):
    """Who built it, and when: git repository and commit, CI run and actor, all "" where unknown."""

    created: str
    repository: str = ""
    commit: str = ""
    run: str = ""
    actor: str = ""


PROVENANCE = Record(
    Provenance,
    created=TimeField("When it was built."),
    repository=TextField("Git repository.", limit=2048, default=""),
    commit=TextField("Git commit.", limit=128, default=""),
    run=TextField("CI run.", limit=2048, default=""),
    actor=TextField("Who started it.", limit=256, default=""),
)


class Manifest(NamedTuple):
    """Everything about a version, and all that a reader needs to verify it.

    It names neither a version number nor a registry.
    """

    build_key: str
    epoch: int
    task: str
    architecture: str
    recipe: Recipe
    source: SourceInfo
    provenance: Provenance
    toolchain: Mapping[str, str]
    machine: str
    files: tuple[File, ...]
    variants: tuple[Variant, ...]
    original: OriginalModel
    golden: Golden
    labels: tuple[str, ...] = ()
    max_length: int | None = None
    embedding: Embedding | None = None
    problem: str = ""
    piece_size: int = PIECE_SIZE
    environment: Mapping[str, str] = {}
    dropped: Mapping[str, str] = {}
    exporter: str = ""

    def file(self, path: str) -> File:
        """The file at ``path``; KeyError if there is none."""
        for file in self.files:
            if file.path == path:
                return file
        raise KeyError(path)

    def variant(self, name: str) -> Variant | None:
        """The variant called ``name``, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def size_of(self, variant: Variant) -> int:
        """Bytes of all files of a variant."""
        wanted = set(variant.files)
        return sum(file.size for file in self.files if file.path in wanted)

    def weights_of(self, variant: Variant) -> int:
        """Bytes of a variant's graphs and external data, without what all variants share."""
        # model.onnx, model.onnx_data, model.xml, model.bin
        stems = tuple(posixpath.splitext(path)[0] + "." for path in variant.graphs.values())
        wanted = {path for path in variant.files if path in variant.graphs.values() or path.startswith(stems)}
        return sum(file.size for file in self.files if file.path in wanted)


def manifest_digest(data: bytes) -> str:
    """The digest that channels and references name a manifest by: ``sha256:`` and 64 hexadecimal digits."""
    return f"sha256:{hex_digest(data)}"


def piece_count(size: int, piece_size: int) -> int:
    """How many pieces a file of ``size`` bytes has."""
    return -(-size // piece_size)


def _check_manifest(fields: Fields, manifest: Manifest) -> None:
    for index, file in enumerate(manifest.files):
        count = piece_count(file.size, manifest.piece_size)
        if len(file.pieces) != count:
            wrong = f"has {len(file.pieces)} digests; {file.size} bytes make {count} pieces"
            fields.fail(wrong, f"files[{index}].pieces")
    check_distinct(file.path for file in manifest.files)
    if len({variant.name for variant in manifest.variants}) != len(manifest.variants):
        fields.fail("names a variant twice", "variants")
    paths = {file.path for file in manifest.files}
    for index, variant in enumerate(manifest.variants):
        _check_variant(fields, f"variants[{index}]", variant, paths)


def _check_variant(fields: Fields, name: str, variant: Variant, paths: set[str]) -> None:
    for index, path in enumerate(variant.files):
        if path not in paths:
            fields.fail(f"{path[:120]!r} is not a file of this version", f"{name}.files[{index}]")
    for path, where in (
        (variant.model, "model"),
        *((graph.path, f"graphs[{index}].path") for index, graph in enumerate(variant.others)),
    ):
        if path not in variant.files:
            fields.fail(f"{path[:120]!r} is not among the variant's files", f"{name}.{where}")
    if len(variant.graphs) <= len(variant.others):
        fields.fail("names a graph twice", f"{name}.graphs")


MANIFEST = DocumentFormat(
    "modeldrop/manifest/1",
    "manifest",
    Record(
        Manifest,
        check=_check_manifest,
        piece_size=IntegerField(
            "Bytes of every piece of a file but its last one.", low=MIN_PIECE_SIZE, high=MAX_PIECE_SIZE
        ),
        files=ListField("Every file of the version, each path once.", ObjectField(FILE), limit=MAX_FILES),
        variants=ListField("The variants, each name once.", ObjectField(VARIANT), limit=256, minimum=1),
        model=GroupField(
            "What the model is.",
            task=TextField("Hub task name.", limit=64),
            architecture=TextField("Class of the original.", limit=256),
            problem=TextField(
                "What scores mean: multi_label_classification, regression, ctc (letters, frame by frame), or absent: "
                "labels of which one is true.",
                limit=64,
                default="",
                omit=True,
            ),
            labels=ListField("Names of the classes, by index.", TextField("A name."), limit=100_000, default=()),
            max_length=IntegerField("Tokens a text is cut to.", low=1, high=1 << 31, default=None),
            embedding=ObjectField(
                EMBEDDING, "How it embeds; absent where sentences have no vector.", default=None, omit=True
            ),
        ),
        source=ObjectField(SOURCE_INFO),
        build=GroupField(
            "How it was built.",
            key=TextField("The build key.", pattern=HEX64, attribute="build_key"),
            epoch=IntegerField("The exporter epoch.", low=1, high=1 << 31),
            recipe=ObjectField(RECORDED_RECIPE),
            exporter=TextField(
                "The library that made the graphs, optimum or transformers; absent where they were ready.",
                limit=64,
                default="",
                omit=True,
            ),
            toolchain=MapField("Versions of what built it, by name.", TextField("A version.", limit=256)),
            environment=MapField(
                "Releases of all packages of the exporter's environment, by name.",
                TextField("A release.", limit=256),
                default={},
                omit=True,
            ),
            machine=TextField("What it was measured on.", limit=1024),
            dropped=MapField(
                "Why a variant is not in this version that is usually built where the recipe names none.",
                TextField("The reason.", limit=100_000),
                default={},
                omit=True,
            ),
        ),
        provenance=ObjectField(PROVENANCE),
        original=ObjectField(ORIGINAL_MODEL),
        golden=ObjectField(GOLDEN),
    ),
    limit=MAX_BYTES,
    verified=False,
)
parse_manifest, serialize_manifest = MANIFEST.parse, MANIFEST.serialize
