"""What the site's own files remember of a registry, so that an update reads no version again.

Versions are kept in chunks of a fixed size, ``data-<n>.js``: scripts, because a page that was opened from a folder may
load those and nothing else. The models' rows stand in the registry's page itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from modeldrop.errors import FormatError
from modeldrop.format.codec import (
    BooleanField,
    ChoiceField,
    IntegerField,
    ListField,
    MapField,
    NumberField,
    ObjectField,
    Record,
    TextField,
)
from modeldrop.format.diff import Facts
from modeldrop.format.json_fields import load_json
from modeldrop.format.manifest import MAX_FILE_SIZE, metrics_field
from modeldrop.format.names import NAME
from modeldrop.util.named_tuples import NamedTuple

CHUNK = 25
"""Versions in one ``data-<n>.js``: number 1 to 25, 26 to 50, …"""
PUBLISHED, RETIRED, SEALED, UNFINISHED, DAMAGED = "published", "retired", "sealed", "unfinished", "damaged"
_MAX_NUMBER = 999_999_999
_MAX_BYTES = 32 << 20
_CALL, _END = "modeldropVersions(", ");\n"
_OPEN, _CLOSE = b'<script type="application/json" id="models">', b"</script>"


class VersionEntry(NamedTuple):
    """What the pages of other versions show of a version; "" and empty where it has none.

    ``at`` and ``by`` are of its build; of a sealed one, of its seal. ``why`` is why it is retired, sealed or cannot be
    read, ``rejected`` how its test failed, ``signature`` what is known of its signature.
    """

    number: int
    state: str
    digest: str = ""
    at: str = ""
    by: str = ""
    why: str = ""
    rejected: str = ""
    signature: str = ""
    source: str = ""
    task: str = ""
    size: int = 0
    faithful: bool = True
    weights: Mapping[str, int] = {}
    one_ms: Mapping[str, float] = {}
    batch_ms: Mapping[str, float] = {}
    metrics: Mapping[str, Mapping[str, float]] = {}
    thresholds: Mapping[str, Mapping[str, float]] = {}
    facts: Facts | None = None

    @property
    def live(self) -> bool:
        """Whether it can be fetched."""
        return self.state in {PUBLISHED, RETIRED}


class ChunkTotals(NamedTuple):
    """What one chunk of versions sums up to: how many can be fetched, their bytes, and which are damaged."""

    live: int = 0
    size: int = 0
    damaged: tuple[int, ...] = ()


class ModelRow(NamedTuple):
    """A model on the registry's page.

    Attributes:
        name: the model.
        channels: the versions that its channels name.
        newest: its newest version that can be fetched, 0 if there is none.
        at: when that was built.
        task: what it is for.
        source: what it was made of.
        weights: the sizes of its variants.
        problems: what is wrong with the model, for people.
        chunks: what its versions sum up to.
    """

    name: str
    channels: Mapping[str, int] = {}
    newest: int = 0
    at: str = ""
    task: str = ""
    source: str = ""
    weights: Mapping[str, int] = {}
    problems: tuple[str, ...] = ()
    chunks: tuple[ChunkTotals, ...] = ()

    @property
    def live(self) -> int:
        """How many versions can be fetched."""
        return sum(chunk.live for chunk in self.chunks)

    @property
    def size(self) -> int:
        """Bytes of all versions that can be fetched."""
        return sum(chunk.size for chunk in self.chunks)


_NUMBER = IntegerField(low=0, high=_MAX_NUMBER)
_BYTES = IntegerField(low=0, high=MAX_FILE_SIZE)
_NUMBERS_BY_NAME = MapField("", _NUMBER, default={}, omit=True)
_BYTES_BY_NAME = MapField("", _BYTES, default={}, omit=True)
_TOTAL = IntegerField(low=0, high=1 << 62, default=0, omit=True)
_METRICS = MapField("", metrics_field("", default={}), default={}, omit=True)
_TEXT = TextField(default="", omit=True)
_TEXTS = MapField("", TextField(default=""), default={})
_FACTS = Record(
    Facts, origin=_TEXTS, recipe=_TEXTS, toolchain=_TEXTS, variants=MapField("", _TEXTS, default={}), files=_TEXTS
)
_ENTRY = Record(
    VersionEntry,
    number=_NUMBER,
    state=ChoiceField("", (PUBLISHED, RETIRED, SEALED, UNFINISHED, DAMAGED), "a known state"),
    digest=_TEXT,
    at=_TEXT,
    by=_TEXT,
    why=_TEXT,
    rejected=_TEXT,
    signature=_TEXT,
    source=_TEXT,
    task=_TEXT,
    size=_TOTAL,
    faithful=BooleanField(default=True, omit=True),
    weights=_BYTES_BY_NAME,
    one_ms=MapField("", NumberField(), default={}, omit=True),
    batch_ms=MapField("", NumberField(), default={}, omit=True),
    metrics=_METRICS,
    thresholds=_METRICS,
    facts=ObjectField(_FACTS, default=None, omit=True),
)
_TOTALS = Record(
    ChunkTotals,
    live=_TOTAL,
    size=_TOTAL,
    damaged=ListField("", _NUMBER, limit=CHUNK, default=(), omit=True),
)
_ROW = Record(
    ModelRow,
    name=TextField(pattern=NAME),
    channels=_NUMBERS_BY_NAME,
    newest=_NUMBER,
    at=_TEXT,
    task=_TEXT,
    source=_TEXT,
    weights=_BYTES_BY_NAME,
    problems=ListField("", TextField(), limit=10_000, default=(), omit=True),
    chunks=ListField("", ObjectField(_TOTALS), limit=1_000_000, default=(), omit=True),
)


def chunk_of(number: int) -> int:
    """In which chunk a version is, from 1."""
    return (number - 1) // CHUNK + 1


def totals_of(entries: Iterable[VersionEntry]) -> ChunkTotals:
    """What one chunk sums up to."""
    entries = list(entries)
    live = [entry for entry in entries if entry.live]
    damaged = tuple(entry.number for entry in entries if entry.state == DAMAGED)
    return ChunkTotals(len(live), sum(entry.size for entry in live), damaged)


def write_chunk(entries: Sequence[VersionEntry]) -> bytes:
    """The bytes of ``data-<n>.js``. Nothing but ASCII, so that nothing in it ends a line of JavaScript."""
    text = json.dumps({"versions": [_ENTRY.write(entry) for entry in entries]}, separators=(",", ":"))
    return f"{_CALL}{text}{_END}".encode()


def read_chunk(data: bytes, where: str) -> list[VersionEntry]:
    """The versions in a ``data-<n>.js``.

    Raises:
        FormatError: it is none.
    """
    text = data.removeprefix(_CALL.encode()).removesuffix(_END.encode())
    children = load_json(text, where, limit=_MAX_BYTES).children("versions", limit=CHUNK)
    return [_ENTRY.read(child) for child in children]


def write_model_rows(rows: Iterable[ModelRow]) -> str:
    """The models for the registry's page; nothing in it can end the element that it stands in."""
    text = json.dumps({"models": [_ROW.write(row) for row in rows]}, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def read_model_rows(page: bytes, where: str) -> dict[str, ModelRow]:
    """The models by name, from a registry's page.

    Raises:
        FormatError: it is none.
    """
    _, found, rest = page.partition(_OPEN)
    if not found:
        raise FormatError(f"{where} is no page of modeldrop site")
    fields = load_json(rest.partition(_CLOSE)[0], where, limit=_MAX_BYTES)
    rows = [_ROW.read(child) for child in fields.children("models", limit=100_000)]
    return {row.name: row for row in rows}
