"""Find the ready ONNX graphs among the files of a source, and the files that hold their weights.

Decided without the onnx library, which the machine that only plans need not have.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from modeldrop.errors import SourceError
from modeldrop.export.sources import disk

MODEL, ENCODER, DECODER = "model", "encoder_model", "decoder_model_merged"
_SUFFIX = ".onnx"
_FOLDERS = ("onnx/", "")
# Which fields of onnx.proto3 lead from a model to the places of its tensors: message → field → message.
_PATHS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _KEY, _VALUE, _GRAPH = 13, 1, 2, 7
_TYPE, _DATA_TYPE = 4, 2
"""An operator's name in its node, and the type of a tensor's elements."""
_WHOLE, _HALF = {1, 11}, {10, 16}
_QUANTIZED: Mapping[str, frozenset[bytes]] = {
    "int4": frozenset({b"MatMulNBits", b"GatherBlockQuantized"}),
    "int8": frozenset({b"ConvInteger", b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul", b"MatMulInteger"}),
    "int8-static": frozenset(
        {
            b"QAttention",
            b"QGemm",
            b"QLinearAdd",
            b"QLinearConv",
            b"QLinearMatMul",
            b"QuantizeLinear",
            b"DequantizeLinear",
        }
    ),
}
"""Operators that only quantized graphs have, by the variant that such a graph is."""
_BYTES = 2
_FIXED = {1: 8, 5: 4}


def choose_onnx(names: Iterable[str], wanted: str, *, where: str) -> dict[str, str]:
    """The graphs of a model by role; {} where there are none and none are named.

    Args:
        names: every file of the source.
        wanted: a graph's file or a folder of them, or "" for those in ``onnx/`` or at the root.
        where: how messages call the source.

    Raises:
        SourceError: the named one is not there, or it is not clear which file is the model.
    """
    known = frozenset(names)
    if wanted in known and wanted.endswith(_SUFFIX):
        return _pair(known, _folder(wanted), where) if _is_part(wanted) else {MODEL: wanted}
    folders = (f"{wanted.strip('/')}/".removeprefix("./"),) if wanted.strip("/.") else _FOLDERS
    for folder in folders:
        here = sorted(name for name in known if _folder(name) == folder and name.endswith(_SUFFIX))
        if f"{folder}{MODEL}{_SUFFIX}" in here:
            return {MODEL: f"{folder}{MODEL}{_SUFFIX}"}
        if any(_is_part(name) for name in here):
            return _pair(known, folder, where)
        if len(here) == 1:
            return {MODEL: here[0]}
        if here:
            raise SourceError(
                f"{where} has {len(here)} ONNX files and none called {MODEL}{_SUFFIX}: {', '.join(here[:4])}"
                f"{' …' if len(here) > 4 else ''}.",
                "Name the one in fp32: SOURCE#path/in/it.onnx",
            )
    if wanted:
        raise missing_graph(known, wanted, where=where)
    return {}


def missing_graph(names: Iterable[str], wanted: str, *, where: str) -> SourceError:
    """The error for a graph that is not there."""
    there = ", ".join(sorted(name for name in names if name.endswith(_SUFFIX))[:8])
    return SourceError(f"{where} has no ONNX file {wanted}.", f"It has: {there}." if there else "It has none at all.")


def data_beside(graph: str, names: Iterable[str]) -> list[str]:
    """Files that by their names hold the weights of a graph which cannot be read yet."""
    starts = (f"{graph}_data", f"{graph}.data")
    return sorted(name for name in names if name.startswith(starts))


def external_locations(path: Path, what: str) -> list[str]:
    """The files that a graph says its weights are in, relative to its folder.

    Raises:
        SourceError: it cannot be read, or is no ONNX file.
    """
    with _mapped(path, what) as data:
        found = sorted(set(_locations(data)))
        if not any(number == _GRAPH for number, *_ in _fields(data, 0, len(data))):
            raise ValueError("no graph")
        return found


@contextlib.contextmanager
def _mapped(path: Path, what: str) -> Iterator[mmap.mmap]:
    """A file's bytes; what is wrong with them is an error that names the file."""
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise ValueError("empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except OSError as error:
        raise disk.unreadable_file(what, error) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{what} is not a whole ONNX file ({error}).", "Export it again, or finish copying it."
        ) from error


def variant_of(path: Path, what: str) -> str:
    """The variant that a graph is: ``fp32``, ``fp16``, or that of its quantized weights.

    Raises:
        SourceError: it cannot be read, or is no ONNX file.
    """
    operators: set[bytes] = set()
    weights = {"half": 0, "whole": 0}
    with _mapped(path, what) as data:
        for message, first, last in _messages(data, 0, len(data), "model"):
            if message == "node":
                operators.update(
                    data[start:stop] for field, start, stop in _fields(data, first, last) if field == _TYPE
                )
            elif message == "tensor":
                kind = dict(_numbers(data, first, last)).get(_DATA_TYPE)
                weights["half"] += (last - first) * (kind in _HALF)
                weights["whole"] += (last - first) * (kind in _WHOLE)
    for variant, kinds in _QUANTIZED.items():
        if operators & kinds:
            return variant
    return "fp16" if weights["half"] > weights["whole"] else "fp32"


def _messages(data: mmap.mmap, begin: int, end: int, message: str) -> Iterator[tuple[str, int, int]]:
    """Every message of a kind that ``_PATHS`` knows, with its begin and end: a model, and all that is in it."""
    yield message, begin, end
    inner = _PATHS.get(message, {})
    for number, first, last in _fields(data, begin, end):
        if number in inner:
            yield from _messages(data, first, last, inner[number])


def _locations(data: mmap.mmap) -> Iterator[str]:
    for message, begin, end in _messages(data, 0, len(data), "model"):
        if message != "tensor":
            continue
        for number, first, last in _fields(data, begin, end):
            if number == _EXTERNAL_DATA:
                parts = {field: data[start:stop] for field, start, stop in _fields(data, first, last)}
                if parts.get(_KEY) == b"location":
                    yield parts.get(_VALUE, b"").decode()


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a protobuf message that have a length: number, begin and end of the value."""
    for number, kind, first, last in _entries(data, begin, end):
        if kind == _BYTES:
            yield number, first, last


def _numbers(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The fields of a protobuf message that are a number: which field, and its value."""
    for number, kind, first, last in _entries(data, begin, end):
        if kind == 0:
            yield number, _varint(data, first, last)[0]


def _entries(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """All fields of a protobuf message: number, kind, begin and end of the value."""
    while begin < end:
        key, begin = _varint(data, begin, end)
        kind = key & 7
        if kind == _BYTES:
            length, begin = _varint(data, begin, end)
            if length > end - begin:
                raise ValueError(f"it ends {length - (end - begin)} bytes early")
        elif kind == 0:
            length = _varint(data, begin, end)[1] - begin
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError("it has fields that ONNX does not know")
        yield key >> 3, kind, begin, begin + length
        begin += length
    if begin != end:
        raise ValueError("it ends within a field")


def _varint(data: mmap.mmap, begin: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while begin < end and shift < 70:
        byte = data[begin]
        begin += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, begin
    raise ValueError("it ends within a field")


def _pair(known: frozenset[str], folder: str, where: str) -> dict[str, str]:
    pair = {role: f"{folder}{role}{_SUFFIX}" for role in (ENCODER, DECODER)}
    missing = [name for name in pair.values() if name not in known]
    if missing:
        raise SourceError(
            f"{where} has parts of an encoder and decoder, but no {missing[0]}.",
            "Export it with a merged decoder (optimum-cli export onnx without --no-post-process).",
        )
    return pair


def _is_part(name: str) -> bool:
    return PurePosixPath(name).name.startswith((ENCODER, "decoder_model", "decoder_with_past"))


def _folder(name: str) -> str:
    return name[: name.rfind("/") + 1]
