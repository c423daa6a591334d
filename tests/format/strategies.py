"""Hypothesis strategies for everything the format layer reads and writes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import strategies as st

from modeldrop.errors import FormatError
from modeldrop.format.channel import Channel, Envelope, Move, Signature, Wanted
from modeldrop.format.golden import Golden, GoldenCase
from modeldrop.format.manifest import (
    Embedding,
    Fidelity,
    File,
    Manifest,
    OriginalModel,
    Provenance,
    SearchStep,
    SourceInfo,
    Speed,
    Tensor,
    Variant,
    WorstInput,
    piece_count,
)
from modeldrop.format.names import check_distinct, check_path
from modeldrop.format.recipe import EXPORTER_NAMES, EXTERNAL_DATA, METRICS, OPSETS, Recipe, Threshold, VariantOptions
from modeldrop.format.records import BuildRecord, Claim, Rejection, Retirement, Seal
from modeldrop.format.reference import Reference
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import VARIANTS

_CHARS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
numbers = st.floats(allow_nan=False, allow_infinity=False)


def texts(limit: int = 20, minimum: int = 0) -> st.SearchStrategy[str]:
    """Any text that a document may hold."""
    return st.text(_CHARS, min_size=minimum, max_size=limit)


hex64 = st.integers(0, 1 << 32).map(lambda number: hashlib.sha256(str(number).encode()).hexdigest())
digests = hex64.map("sha256:{}".format)
times = st.datetimes().map(lambda time: f"{time.year:04}{time:-%m-%dT%H:%M:%SZ}")
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
channel_names = names.filter(lambda name: name != "builds" and not (name[0] == "v" and name[1:].isdigit()))
version_numbers = st.integers(1, 999_999_999)


def _may_be_path(path: str) -> bool:
    try:
        check_path(path)
    except FormatError:
        return False
    return True


paths = st.one_of(
    st.from_regex(r"[a-zA-Z0-9_-]{1,8}(/[a-zA-Z0-9._-]{0,8}[a-z]){0,2}\.(onnx|json|txt)", fullmatch=True),
    st.lists(texts(6, minimum=1), min_size=1, max_size=3).map("/".join),
).filter(_may_be_path)


@st.composite
def path_lists(draw: st.DrawFn) -> list[str]:
    """Some paths that fit in one version."""
    chosen: list[str] = []
    for path in draw(st.lists(paths, min_size=1, max_size=4)):
        try:
            check_distinct([*chosen, path])
        except FormatError:
            continue
        chosen.append(path)
    return chosen


@st.composite
def files(draw: st.DrawFn, path: str, piece_size: int) -> File:
    """A file with as many pieces as its size needs."""
    size = draw(st.one_of(st.integers(0, 3 * piece_size), st.sampled_from([0, piece_size, piece_size + 1])))
    count = piece_count(size, piece_size)
    return File(path, size, draw(hex64), tuple(draw(st.lists(hex64, min_size=count, max_size=count))))


tensors = st.builds(
    Tensor, name=texts(), dtype=texts(8), shape=st.lists(texts(6), max_size=3).map(tuple), columns=st.just(())
)
tries = st.builds(
    SearchStep, what=texts(), weights=st.integers(0, 1 << 40), metrics=st.dictionaries(texts(6), numbers, max_size=2),
    holds=st.booleans(),
)  # fmt: skip
speeds = st.none() | st.builds(Speed, batch_1_ms=numbers, batch_32_ms=numbers)
metric_values = st.dictionaries(st.sampled_from([*METRICS, "later"]) | texts(6), numbers, max_size=3)
fidelities = st.builds(
    Fidelity,
    metrics=metric_values,
    thresholds=metric_values,
    worst=st.dictionaries(texts(6), st.builds(WorstInput, text=texts(), value=numbers), max_size=2),
    texts=st.integers(0, 1 << 31),
)
NAMES = list(VARIANTS)
QUANTIZED = [name for name in NAMES[1:] if name not in {"o1", "o2", "o3", "o4"}]
options = st.builds(
    VariantOptions,
    max_size=st.sampled_from(["", "27%", "25 MB"]),
    must_be_faster=st.sampled_from([0.0, 1.0, 1.5]),
    keep_layers=st.lists(texts(6), max_size=2).map(tuple),
    auto=st.just(False),
)
own_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in METRICS)
limits = st.builds(Threshold, side=st.just(">="), number=numbers, relative=st.booleans())
own_limits = st.dictionaries(own_names, limits, min_size=1, max_size=2)
any_recipes = st.builds(
    Recipe,
    task=st.none() | texts(),
    variants=st.lists(texts(6), max_size=3).map(tuple),
    thresholds=st.dictionaries(texts(6), metric_values, max_size=2),
    inputs=st.none() | texts(),
    metric=st.none() | texts(),
    own_thresholds=st.dictionaries(texts(6), own_limits, max_size=2),
    calibration=st.none() | texts(),
    options=st.dictionaries(texts(6), options, max_size=2),
    max_length=st.none() | st.integers(8, 1 << 20),
    truncate_dim=st.none() | st.integers(1, 1 << 20),
    opset=st.none() | st.integers(1, 1 << 31),
    exporter=texts(),
    external_data=texts(),
    tokenizer=st.none() | texts(),
    files=st.lists(texts(6), max_size=2).map(tuple),
    state_dict=st.none() | texts(),
    dynamic_shapes=st.dictionaries(texts(6), st.dictionaries(texts(2), texts(6)), max_size=2),
    allow_pickle=st.booleans(),
    trust_remote_code=st.booleans(),
    trust_code=st.booleans(),
)
recipes = st.builds(
    Recipe,
    task=st.none() | st.sampled_from(list(TASKS)),
    variants=st.sets(st.sampled_from(NAMES), min_size=1).map(
        lambda chosen: tuple(name for name in VARIANTS if name in chosen)
    ),
    thresholds=st.dictionaries(
        st.sampled_from(NAMES), st.dictionaries(st.sampled_from(list(METRICS)), numbers, min_size=1), max_size=2
    ),
    inputs=st.none() | texts(),
    metric=st.just("quality:accuracy"),
    own_thresholds=st.dictionaries(st.sampled_from(NAMES), own_limits, max_size=2),
    calibration=st.none() | texts(),
    options=st.dictionaries(st.sampled_from(QUANTIZED), options, max_size=2),
    max_length=st.none() | st.integers(8, 1 << 20),
    truncate_dim=st.none() | st.integers(1, 1 << 20),
    opset=st.none() | st.sampled_from(OPSETS),
    exporter=st.sampled_from(EXPORTER_NAMES),
    external_data=st.sampled_from(EXTERNAL_DATA),
    tokenizer=st.none(),
    files=st.lists(texts(6), max_size=2).map(tuple),
    state_dict=st.none() | texts(),
    dynamic_shapes=st.dictionaries(
        texts(6),
        st.dictionaries(st.sampled_from(["0", "1", "12"]), st.sampled_from(["batch", "length <= 512", "8*blocks"])),
        max_size=2,
    ),
    allow_pickle=st.booleans(),
    trust_remote_code=st.booleans(),
    trust_code=st.booleans(),
)
cases = st.builds(
    GoldenCase,
    text=texts(),
    inputs=st.dictionaries(texts(8), st.lists(st.integers(0, 1 << 31), max_size=4).map(tuple), max_size=2),
    values=st.lists(numbers, max_size=4).map(tuple),
)


@st.composite
def variants(draw: st.DrawFn, name: str, present: list[str]) -> Variant:
    """A variant of a version that holds ``present``."""
    needed = draw(st.lists(st.sampled_from(present), min_size=1, unique=True))
    return Variant(
        name=name,
        model=draw(st.sampled_from(needed)),
        files=tuple(needed),
        opset=draw(st.integers(1, 10_000)),
        ir_version=draw(st.integers(1, 10_000)),
        min_onnxruntime=draw(texts(8)),
        inputs=tuple(draw(st.lists(tensors, max_size=2))),
        outputs=tuple(draw(st.lists(tensors, max_size=2))),
        fidelity=draw(fidelities),
        speed=draw(speeds),
        search=tuple(draw(st.lists(tries, max_size=2))),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that a reader must accept."""
    piece_size = draw(st.sampled_from([64 << 10, 16 << 20, 1 << 30]))
    present = draw(path_lists())
    return Manifest(
        build_key=draw(hex64),
        epoch=draw(st.integers(1, 1 << 31)),
        task=draw(texts()),
        architecture=draw(texts()),
        recipe=draw(any_recipes),
        source=draw(
            st.builds(
                SourceInfo,
                identity=texts(),
                repository=texts(),
                commit=texts(),
                licence=texts(),
                gated=st.booleans(),
                left_out=st.lists(texts(), max_size=2).map(tuple),
            )
        ),
        provenance=draw(
            st.builds(Provenance, created=times, repository=texts(), commit=texts(), run=texts(), actor=texts())
        ),
        toolchain=draw(st.dictionaries(texts(), texts(), max_size=3)),
        environment=draw(st.dictionaries(texts(), texts(), max_size=3)),
        machine=draw(texts()),
        files=tuple(draw(files(path, piece_size)) for path in present),
        variants=tuple(
            draw(variants(name, present)) for name in draw(st.lists(names, min_size=1, max_size=2, unique=True))
        ),
        original=draw(
            st.builds(
                OriginalModel,
                framework=texts(),
                weight_bytes=st.integers(0, 1 << 40),
                speed=speeds,
                metrics=st.dictionaries(texts(6), numbers, max_size=2),
            )
        ),
        golden=draw(
            st.builds(
                Golden,
                output=texts(),
                cases=st.lists(cases, max_size=2).map(tuple),
                metrics=st.dictionaries(texts(6), metric_values, max_size=2),
                chains=st.just(()),
                examples=st.just(()),
            )
        ),
        labels=tuple(draw(st.lists(texts(), max_size=3))),
        max_length=draw(st.none() | st.integers(1, 1 << 31)),
        embedding=draw(
            st.none()
            | st.builds(
                Embedding,
                dimension=st.integers(1, 1 << 31),
                similarity=texts(),
                prompts=st.dictionaries(texts(6), texts(), max_size=2),
                default_prompt=texts(6),
            )
        ),
        piece_size=piece_size,
        exporter=draw(st.sampled_from(EXPORTER_NAMES[1:]) | st.just("")),
    )


moves = st.builds(
    Move,
    version=st.integers(1, 6),
    digest=digests,
    generation=st.just(1),
    nonce=texts(16),
    action=st.sampled_from(["publish", "promote", "rollback"]),
    by=texts(),
    at=times,
    why=texts(),
)

wanted_values = st.builds(
    Wanted, build_key=hex64, at=times, run=texts(), generation=st.integers(1, 1 << 53), proposal=st.booleans()
)


envelopes = st.builds(
    Envelope,
    payload=texts(),
    payload_type=texts(),
    signatures=st.lists(st.builds(Signature, keyid=texts(), sig=texts()), min_size=1, max_size=4).map(tuple),
)


@st.composite
def channels(draw: st.DrawFn, most: int = 8) -> Channel:
    """A channel after some moves."""
    first, *later = draw(st.lists(moves, min_size=1, max_size=most))
    channel = Channel(first, wanted=draw(st.none() | wanted_values))
    for move in later:
        channel = channel.moved(move, draw(st.none() | wanted_values))
    return channel._replace(signed=draw(st.none() | envelopes))


claims = st.builds(Claim, nonce=texts(), build_key=hex64, by=texts(), run=texts(), at=times)
build_records = st.builds(BuildRecord, version=version_numbers, nonce=texts(), at=times)
rejections = st.builds(Rejection, at=times, by=texts(), run=texts(), why=texts())
retirements = st.builds(Retirement, at=times, by=texts(), why=texts())
seals = st.builds(Seal, at=times, by=texts(), why=texts(), manifest=texts())


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """Any reference that a person may write."""
    part = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_@ .-]{0,9}", fullmatch=True)
    tail = "/".join(draw(st.lists(part, min_size=1, max_size=3)))
    registry = draw(
        st.sampled_from(
            ["", "/", ".", "..", "~", f"/{tail}", f"./{tail}", f"../{tail}", f"~/{tail}"]
            + [f"{scheme}://{tail}" for scheme in ("s3", "gs", "az", "https")]
        )
    )
    pinned = draw(st.none() | version_numbers)
    return Reference(
        registry=registry,
        model=draw(names),
        channel=None if pinned else draw(st.just("current") | channel_names),
        version=pinned,
        digest=draw(st.none() | digests),
    )


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON can say."""
    leaves = st.none() | st.booleans() | st.integers() | numbers | texts() | st.just(10**400)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts(8), inner, max_size=4),
        max_leaves=8,
    )


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """A valid document in which one to three values were replaced, removed or added, or bytes damaged."""
    if draw(st.booleans()):
        raw = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
        return bytes(raw[: draw(st.integers(0, len(raw)) | st.just(len(raw)))])
    value = json.loads(data)
    for _ in range(draw(st.integers(1, 3))):
        spots = list(_spots(value))
        if not spots:
            break
        holder, key = draw(st.sampled_from(spots))
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del holder[key]
        elif change == "replace" or isinstance(holder, list):
            holder[key] = draw(json_values())
        else:
            holder[draw(texts(8))] = draw(json_values())
    return json.dumps(value).encode()


def _spots(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _spots(inner)
