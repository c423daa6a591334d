"""Manifests: everything about a version, and all that a reader needs to verify it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from modeldrop.format.golden import Golden, golden_json, read_golden
from modeldrop.format.json_fields import Fields, check_schema, dump, load
from modeldrop.format.names import HEX64, NAME, TIME, check_distinct, check_path, hex_digest
from modeldrop.format.recipe import Recipe, read_recipe
from modeldrop.util.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "modeldrop/manifest/1"
READABLE_BY = "modeldrop>=0.1"
MAX_BYTES = 16 << 20
MAX_FILES = 10_000
MAX_FILE_SIZE = 1 << 40
PIECE_SIZE = 1 << 20
MIN_PIECE_SIZE, MAX_PIECE_SIZE = 64 << 10, 1 << 30
MAX_PIECES = 1 << 18
MODEL = "model"
"""The role of a graph that is the whole model."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a version.

    Attributes:
        path: relative, with ``/``; see ``names.check_path``.
        size: bytes.
        sha256: 64 hexadecimal digits, for the ecosystem.
        pieces: BLAKE3 of every piece, 64 hexadecimal digits each; none for an empty file.
    """

    path: str
    size: int
    sha256: str
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph: name, element type, and shape with names for what may vary."""

    name: str
    dtype: str
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speed:
    """Median latency in milliseconds of one text, and of a batch of 32."""

    batch_1_ms: float
    batch_32_ms: float


@dataclass(frozen=True, slots=True)
class WorstInput:
    """The input on which a metric was worst: its text, cut to 200 characters, and the value there."""

    text: str
    value: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How a variant compares with the original, by metric; thresholds as they were applied."""

    metrics: Mapping[str, float]
    thresholds: Mapping[str, float]
    worst: Mapping[str, WorstInput]
    texts: int


@dataclass(frozen=True, slots=True)
class SearchStep:
    """A step of the search for the smallest variant that meets its thresholds.

    Attributes:
        what: how it was made.
        weights: bytes of its graphs and weights.
        metrics: how it compares with the original.
        holds: whether it meets the thresholds.
    """

    what: str
    weights: int
    metrics: Mapping[str, float]
    holds: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """A further graph of a variant: its role (such as ``decoder_model_merged``), path, inputs and outputs."""

    role: str
    path: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One build of the weights.

    Attributes:
        name: such as ``int8``.
        model: path of the graph a runtime opens; of the first one it runs, where the model has several.
        files: paths of all files the variant needs, ``model`` and the tokenizer included.
        opset: version of the default ONNX operator set.
        ir_version: version of the ONNX file format.
        min_onnxruntime: the oldest onnxruntime that loads it.
        inputs: the graph's inputs.
        outputs: the graph's outputs, the first one first.
        fidelity: measured against the original.
        speed: measured on the building machine; None where it was not measured.
        role: what ``model`` is in the model: ``model``, or such as ``encoder_model`` where there are several graphs.
        others: the further graphs of a model that has several.
        search: how it was found, in the order of the tries; () where it was made in one way.
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


@dataclass(frozen=True, slots=True)
class OriginalModel:
    """The model that the variants are compared with: framework and version, bytes of its weights, speed.

    ``metrics`` are the figures that the recipe's own metric gives of the original itself.
    """

    framework: str
    weight_bytes: int
    speed: Speed | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where the weights came from; ``gated`` where only those get them who have accepted terms on the Hub."""

    identity: str
    repository: str = ""
    commit: str = ""
    licence: str = ""
    gated: bool = False


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who built it and when: git repository and commit, CI run and actor, all "" where unknown."""

    created: str
    repository: str = ""
    commit: str = ""
    run: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A version: files, variants, and how it came to be. Names neither a version number nor a registry."""

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
    piece_size: int = field(default=PIECE_SIZE)
    environment: Mapping[str, str] = field(default_factory=dict)

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


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest, trusting nothing in it.

    Raises:
        FormatError: naming the field that is wrong, or the release that reads an unknown schema.
    """
    fields = load(data, "manifest", limit=MAX_BYTES)
    check_schema(fields, SCHEMA)
    piece_size = fields.integer("piece_size", low=MIN_PIECE_SIZE, high=MAX_PIECE_SIZE)
    files = tuple(_file(item, piece_size) for item in fields.children("files", limit=MAX_FILES))
    check_distinct(file.path for file in files)
    paths = {file.path for file in files}
    variants = tuple(_variant(item, paths) for item in fields.children("variants", limit=256))
    if not variants:
        fields.fail("must name at least one variant", "variants")
    if len({variant.name for variant in variants}) != len(variants):
        fields.fail("names a variant twice", "variants")
    build = fields.child("build")
    model = fields.child("model")
    return Manifest(
        build_key=build.text("key", pattern=HEX64),
        epoch=build.integer("epoch", low=1, high=1 << 31),
        task=model.text("task", limit=64),
        architecture=model.text("architecture", limit=256),
        recipe=read_recipe(build.child("recipe"), strict=False),
        source=_source(fields.child("source")),
        provenance=_provenance(fields.child("provenance")),
        toolchain=_mapping(build.child("toolchain"), limit=256),
        environment=_mapping(build.child("environment", optional=True), limit=256),
        machine=build.text("machine", limit=1024),
        files=files,
        variants=variants,
        original=_original(fields.child("original")),
        golden=read_golden(fields.child("golden")),
        labels=model.texts("labels", limit=100_000, default=()),
        max_length=model.integer("max_length", low=1, high=1 << 31, default=None),
        piece_size=piece_size,
    )


def serialize_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest: the same manifest always gives the same bytes."""
    return dump(
        {
            "schema": SCHEMA,
            "readable_by": READABLE_BY,
            "piece_size": manifest.piece_size,
            "files": [
                {"path": file.path, "size": file.size, "sha256": file.sha256, "pieces": list(file.pieces)}
                for file in manifest.files
            ],
            "variants": [_variant_json(variant) for variant in manifest.variants],
            "model": {
                "task": manifest.task,
                "architecture": manifest.architecture,
                "labels": list(manifest.labels),
                "max_length": manifest.max_length,
            },
            "source": _source_json(manifest.source),
            "build": {
                "key": manifest.build_key,
                "epoch": manifest.epoch,
                "recipe": manifest.recipe.to_record(),
                "toolchain": dict(manifest.toolchain),
                "machine": manifest.machine,
            }
            | ({"environment": dict(manifest.environment)} if manifest.environment else {}),
            "provenance": {
                "created": manifest.provenance.created,
                "repository": manifest.provenance.repository,
                "commit": manifest.provenance.commit,
                "run": manifest.provenance.run,
                "actor": manifest.provenance.actor,
            },
            "original": {
                "framework": manifest.original.framework,
                "weight_bytes": manifest.original.weight_bytes,
                "speed": _speed_json(manifest.original.speed),
            }
            # Absent where there are none: what earlier releases wrote keeps its bytes.
            | ({"metrics": dict(manifest.original.metrics)} if manifest.original.metrics else {}),
            "golden": golden_json(manifest.golden),
        }
    )


def _file(fields: Fields, piece_size: int) -> File:
    size = fields.integer("size", low=0, high=MAX_FILE_SIZE)
    pieces = fields.texts("pieces", limit=MAX_PIECES)
    if len(pieces) != piece_count(size, piece_size):
        fields.fail(f"has {len(pieces)} digests; {size} bytes make {piece_count(size, piece_size)} pieces", "pieces")
    for index, piece in enumerate(pieces):
        if not HEX64.fullmatch(piece):
            fields.fail("is not a BLAKE3 digest of 64 hexadecimal digits", f"pieces[{index}]")
    return File(
        path=check_path(fields.text("path", limit=4096), fields.at("path")),
        size=size,
        sha256=fields.text("sha256", pattern=HEX64),
        pieces=pieces,
    )


def _variant(fields: Fields, paths: set[str]) -> Variant:
    files = fields.texts("files", limit=MAX_FILES)
    for index, path in enumerate(files):
        if path not in paths:
            fields.fail(f"{path[:120]!r} is not a file of this version", f"files[{index}]")
    if len(set(files)) != len(files):
        fields.fail("names a file twice", "files")
    model = fields.text("model")
    if model not in files:
        fields.fail(f"{model[:120]!r} is not among the variant's files", "model")
    others = tuple(_graph(item, files) for item in fields.children("graphs", limit=64, optional=True))
    role = fields.text("role", default=MODEL, limit=64)
    if len({role, *(graph.role for graph in others)}) <= len(others):
        fields.fail("names a graph twice", "graphs")
    return Variant(
        name=fields.text("name", pattern=NAME),
        model=model,
        files=files,
        opset=fields.integer("opset", low=1, high=10_000),
        ir_version=fields.integer("ir_version", low=1, high=10_000),
        min_onnxruntime=fields.text("min_onnxruntime", limit=64),
        inputs=tuple(_tensor(item) for item in fields.children("inputs", limit=1000)),
        outputs=tuple(_tensor(item) for item in fields.children("outputs", limit=1000)),
        fidelity=_fidelity(fields.child("fidelity")),
        speed=_speed(fields),
        role=role,
        others=others,
        search=tuple(_try(item) for item in fields.children("search", limit=1000, optional=True)),
    )


def _try(fields: Fields) -> SearchStep:
    return SearchStep(
        what=fields.text("what", limit=256),
        weights=fields.integer("weights", low=0, high=MAX_FILE_SIZE),
        metrics=_numbers(fields.child("metrics")),
        holds=fields.boolean("holds"),
    )


def _graph(fields: Fields, files: tuple[str, ...]) -> Graph:
    path = fields.text("path")
    if path not in files:
        fields.fail(f"{path[:120]!r} is not among the variant's files", "path")
    return Graph(
        role=fields.text("role", limit=64),
        path=path,
        inputs=tuple(_tensor(item) for item in fields.children("inputs", limit=1000)),
        outputs=tuple(_tensor(item) for item in fields.children("outputs", limit=1000)),
    )


def _variant_json(variant: Variant) -> dict[str, Any]:
    plain = {
        "name": variant.name,
        "model": variant.model,
        "files": list(variant.files),
        "opset": variant.opset,
        "ir_version": variant.ir_version,
        "min_onnxruntime": variant.min_onnxruntime,
        "inputs": [_tensor_json(tensor) for tensor in variant.inputs],
        "outputs": [_tensor_json(tensor) for tensor in variant.outputs],
        "fidelity": {
            "metrics": dict(variant.fidelity.metrics),
            "thresholds": dict(variant.fidelity.thresholds),
            "worst": {
                name: {"text": worst.text, "value": worst.value} for name, worst in variant.fidelity.worst.items()
            },
            "texts": variant.fidelity.texts,
        },
        "speed": _speed_json(variant.speed),
    }
    # Absent where there is one graph: what earlier releases wrote keeps its bytes.
    if variant.role != MODEL:
        plain["role"] = variant.role
    if variant.others:
        plain["graphs"] = [
            {
                "role": graph.role,
                "path": graph.path,
                "inputs": [_tensor_json(tensor) for tensor in graph.inputs],
                "outputs": [_tensor_json(tensor) for tensor in graph.outputs],
            }
            for graph in variant.others
        ]
    if variant.search:
        plain["search"] = [
            {"what": one.what, "weights": one.weights, "metrics": dict(one.metrics), "holds": one.holds}
            for one in variant.search
        ]
    return plain


def _tensor(fields: Fields) -> Tensor:
    return Tensor(
        name=fields.text("name", limit=1024),
        dtype=fields.text("dtype", limit=64),
        shape=fields.texts("shape", limit=64),
    )


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}


def _fidelity(fields: Fields) -> Fidelity:
    worst = fields.child("worst", optional=True)
    return Fidelity(
        metrics=_numbers(fields.child("metrics")),
        thresholds=_numbers(fields.child("thresholds", optional=True)),
        worst={name: _worst(worst.child(name)) for name in worst.names()},
        texts=fields.integer("texts", low=0, high=1 << 31),
    )


def _worst(fields: Fields) -> WorstInput:
    return WorstInput(text=fields.text("text"), value=fields.number("value"))


def _speed(fields: Fields) -> Speed | None:
    if not fields.has("speed"):
        return None
    speed = fields.child("speed")
    return Speed(batch_1_ms=speed.number("batch_1_ms"), batch_32_ms=speed.number("batch_32_ms"))


def _speed_json(speed: Speed | None) -> dict[str, float] | None:
    return None if speed is None else {"batch_1_ms": speed.batch_1_ms, "batch_32_ms": speed.batch_32_ms}


def _source(fields: Fields) -> SourceInfo:
    return SourceInfo(
        identity=fields.text("identity", limit=4096),
        repository=fields.text("repository", default="", limit=1024),
        commit=fields.text("commit", default="", limit=128),
        licence=fields.text("licence", default="", limit=256),
        gated=fields.boolean("gated", default=False),
    )


def _source_json(source: SourceInfo) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "identity": source.identity,
        "repository": source.repository,
        "commit": source.commit,
        "licence": source.licence,
    }
    # Absent where it is not: what earlier releases wrote keeps its bytes.
    return plain | {"gated": True} if source.gated else plain


def _provenance(fields: Fields) -> Provenance:
    return Provenance(
        created=fields.text("created", pattern=TIME),
        repository=fields.text("repository", default="", limit=2048),
        commit=fields.text("commit", default="", limit=128),
        run=fields.text("run", default="", limit=2048),
        actor=fields.text("actor", default="", limit=256),
    )


def _original(fields: Fields) -> OriginalModel:
    return OriginalModel(
        framework=fields.text("framework", limit=128),
        weight_bytes=fields.integer("weight_bytes", low=0, high=MAX_FILE_SIZE),
        speed=_speed(fields),
        metrics=_numbers(fields.child("metrics", optional=True)),
    )


def _numbers(fields: Fields) -> dict[str, float]:
    return {name: fields.number(name) for name in fields.names()}


def _mapping(fields: Fields, *, limit: int) -> dict[str, str]:
    return {name: fields.text(name, limit=limit) for name in fields.names()}
