"""Read the description of an OpenVINO graph, its ``.xml``, without openvino and without the weights.

So a source can be refused, and its build key computed, on a machine that only plans. The form is version 10
or 11 of what OpenVINO's documentation calls its Intermediate Representation (IR).
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

MAX_BYTES = 256 * 1024 * 1024
"""The largest ``.xml`` that is read: that of a language model with 80 layers has 10 MB."""

BITS = {"f32": 32, "f16": 16, "u8": 8, "i8": 8, "u4": 4, "i4": 4}
"""The types of weights that variants are called after, with their bits."""

_FAMILIAR = frozenset(
    {
        "attention_mask", "beam_idx", "input_ids", "last_hidden_state", "logits", "pixel_values", "position_ids",
        "sentence_embedding", "token_type_ids",
    }
)  # fmt: skip
_WEIGHTY = frozenset({"MatMul", "Convolution", "GroupConvolution"})
# Operations between stored weights and the product that uses them.
_UNPACKING = frozenset(
    {"Convert", "FakeConvert", "FakeQuantize", "Multiply", "Reshape", "Squeeze", "Subtract", "Transpose", "Unsqueeze"}
)
_COUNTING = frozenset({"boolean", "i16", "i32", "i64", "u16", "u32", "u64", "string"})
_NAMES = re.compile(r"(?<!\\),")
_OPSET = re.compile(r"opset([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph: its name, and its shape with None for what is free."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """Numbers in the ``.bin``: their type, as OpenVINO calls it, their shape, and where they begin."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Ir:
    """A graph.

    Attributes:
        inputs: what it is given.
        outputs: what it answers.
        weights: the type of the weights that it multiplies by, that of the fewest bits where there are several; ""
            without any.
        constants: all of its numbers, weights among them.
        names: of its operations.
        data_bytes: how long its ``.bin`` must be at least.
        stateful: whether it remembers between runs.
        opset: the newest set of OpenVINO's operations that it uses.
        version: of the format.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: str
    constants: tuple[Constant, ...]
    names: tuple[str, ...]
    data_bytes: int
    stateful: bool
    opset: int
    version: int


def read_ir(path: Path) -> Ir:
    """See ``parse_ir``."""
    return parse_ir(path.read_bytes())


def parse_ir(data: bytes) -> Ir:
    """Read an ``.xml``.

    Raises:
        ValueError: it is none, or not whole.
    """
    if len(data) > MAX_BYTES:
        raise ValueError("larger than any graph")
    text = data.decode("utf-8")  # OpenVINO's encoding, whatever the file declares
    if "<!DOCTYPE" in text:  # its entities could make a small file large; OpenVINO writes none
        raise ValueError("it has a document type")
    try:
        root = ET.fromstring(text)  # noqa: S314  it has no entities
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    layers = {layer.get("id", ""): layer for layer in root.iterfind("layers/layer")}
    if root.tag != "net" or not layers:
        raise ValueError("it describes no graph")
    feeds = _feeds(root)
    every = list(root.iter("layer"))  # also those inside others: the bodies of loops
    constants = tuple(_constant(layer) for layer in every if layer.get("type") == "Const")
    stored = [_data(layer) for layer in every if layer.get("type") == "Const"]
    opsets = [_OPSET.fullmatch(layer.get("version", "")) for layer in every]
    types = _weight_types(layers, feeds)
    return Ir(
        inputs=tuple(_port(layer) for layer in layers.values() if layer.get("type") == "Parameter"),
        outputs=tuple(starmap(_output, _answers(layers, feeds))),
        weights=min(types, key=lambda name: (BITS.get(name, 0), name), default=""),
        constants=constants,
        names=tuple(layer.get("name", "") for layer in layers.values()),
        data_bytes=max((_number(one.get("offset")) + _number(one.get("size")) for one in stored), default=0),
        stateful=any(layer.get("type") == "ReadValue" for layer in every),
        opset=max((int(match[1]) for match in opsets if match), default=1),
        version=_number(root.get("version")),
    )


def name_among(names: Iterable[str]) -> str:
    """The name of an input or output that has several: the one that transformers gives it; "" where there is none.

    OpenVINO's converter of PyTorch models adds those of the values inside that are the same: ``attention_mask,64``.
    """
    return min(names, key=lambda name: (name not in _FAMILIAR, name.isdigit(), name), default="")


_Feeds = Mapping[str, Mapping[str, tuple[str, str]]]


def _feeds(root: ET.Element) -> _Feeds:
    """For every layer, by the port that takes it, the layer and port that a value comes from."""
    feeds: dict[str, dict[str, tuple[str, str]]] = {}
    for edge in root.iterfind("edges/edge"):
        source = (edge.get("from-layer", ""), edge.get("from-port", ""))
        feeds.setdefault(edge.get("to-layer", ""), {})[edge.get("to-port", "")] = source
    return feeds


def _answers(layers: Mapping[str, ET.Element], feeds: _Feeds) -> Iterable[tuple[ET.Element, str]]:
    for number, layer in layers.items():
        if layer.get("type") == "Result":
            for source, port in feeds.get(number, {}).values():
                if source not in layers:
                    raise ValueError(f"its operation {source} is missing")
                yield layers[source], port


def _output(layer: ET.Element, number: str) -> Port:
    port = next((port for port in layer.iterfind("output/port") if port.get("id") == number), None)
    if port is None:
        raise ValueError(f"{layer.get('name')} has no port {number}")
    return _port(layer, port)


def _port(layer: ET.Element, port: ET.Element | None = None) -> Port:
    port = layer.find("output/port") if port is None else port
    if port is None:
        raise ValueError(f"{layer.get('name')} has no output")
    names = [name.replace("\\,", ",") for name in _NAMES.split(port.get("names", "")) if name]
    dims = (_number(dim.text) for dim in port.iterfind("dim"))
    return Port(name_among(names) or layer.get("name", ""), tuple(None if dim < 0 else dim for dim in dims))


def _constant(layer: ET.Element) -> Constant:
    data = _data(layer)
    shape = tuple(_number(dim) for dim in data.get("shape", "").split(",") if dim.strip())
    return Constant(layer.get("name", ""), data.get("element_type", ""), shape, _number(data.get("offset")))


def _data(layer: ET.Element) -> ET.Element:
    data = layer.find("data")
    if data is None:
        raise ValueError(f"the constant {layer.get('name')} has no data")
    return data


def _weight_types(layers: Mapping[str, ET.Element], feeds: _Feeds) -> set[str]:
    types = set()
    for number, layer in layers.items():
        if layer.get("type") not in _WEIGHTY:
            continue
        for source, _ in feeds.get(number, {}).values():
            stored = _stored(source, layers, feeds)
            if stored:
                # Scales and zero points are smaller than what they belong to.
                largest = max(stored, key=lambda constant: math.prod(constant.shape))
                types.add(largest.dtype)
    return types - _COUNTING


def _stored(number: str, layers: Mapping[str, ET.Element], feeds: _Feeds) -> list[Constant]:
    """The constants that a value is unpacked from; [] where it is computed from inputs."""
    found: list[Constant] = []
    waiting, seen = [number], set()
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        kind = layers[at].get("type") if at in layers else None
        if kind == "Const":
            found.append(_constant(layers[at]))
        elif kind in _UNPACKING:
            waiting += [source for source, _ in feeds.get(at, {}).values()]
        else:
            return []
    return found


def _number(text: str | None) -> int:
    return int(text or "")
