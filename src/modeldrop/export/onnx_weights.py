"""Writing ONNX graphs: in one file, or with their weights beside them, in ``<file>_data``.

onnxruntime maps a file of weights into memory instead of reading it: all processes that have it open share its pages,
and what nobody asks for is never read. Of a graph in one file every process has two copies while it opens it, and keeps
one.

In that file, weights stand in the order in which the graph uses them, those of a page or more at the beginning of one,
as ONNX's specification asks of files that are mapped; what is shorter comes after them. Names are the graph's alone. So
a graph that is changed, but not in its weights, keeps the file of its weights to the byte, whatever its nodes and
weights are called then; and weights that were trained on stand where those before them stood.

Only weights of the graph itself lie there, and none of the graphs inside its nodes, such as the branches of a decoder
with and without a past: of those, onnxruntime lets ONNX's checker look at the files, and it refuses every file that has
two names (hard links), as files have that two versions share. So their weights become the outer graph's, which they
may use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from modeldrop.errors import ExportError
from modeldrop.export.graph_files import ONE_FILE
from modeldrop.export.onnx_files import all_graphs, external_files
from modeldrop.util.files import replacing

BESIDE = 8_000_000
"""Bytes of weights from which ``auto`` puts them beside the graph: below, a process would be spared a few megabytes,
where it takes 20 without any model, for one more file to fetch."""
_SMALLEST = 1024  # onnxruntime reads the shapes that are computed from smaller ones out of the graph alone
_PAGE = 4096
_LINE = 64  # of a processor's cache, and of its widest registers


def save(model: onnx.ModelProto, path: Path, *, beside: bool = False) -> None:
    """Write a graph; what else there is under its names is replaced.

    Args:
        model: it, with its weights in memory or in files in the folder of ``path``.
        path: where to.
        beside: whether the weights lie beside it even where one file could hold them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(f"{path.name}_data")
    # Protobuf cannot compute the size of a message over its own limit.
    beside = beside or _size(model, path.parent) > ONE_FILE
    if beside:
        _move_outwards(model, path.parent)
    weights = _weights(model.graph, path.parent)
    for tensor in _staying(model, path.parent, beside=beside):
        if uses_external_data(tensor):
            load_external_data_for_tensor(tensor, str(path.parent))
    if beside and weights:
        _write_data(weights, data)
    with replacing(path) as begun:
        onnx.save_model(model, begun)
        begun.chmod(0o644)
    if not (beside and weights):
        data.unlink(missing_ok=True)


def settle_data(path: Path) -> None:
    """Write again what onnxruntime's quantizers wrote with ``<file>.data`` beside it: see ``save``."""
    save(onnx.load(path, load_external_data=False), path)
    path.with_name(f"{path.name}.data").unlink()


def arrange(path: Path, external_data: str, *, ready: bool = False) -> None:
    """Put the weights of a finished graph where the recipe wants them.

    Args:
        path: the graph. One that is not ONNX stays as it is.
        external_data: ``always``, ``never`` or ``auto``.
        ready: whether the source has it so: ``auto`` leaves that alone, unless files cannot have two names so.

    Raises:
        ExportError: one file cannot hold them.
    """
    if path.suffix != ".onnx":
        return
    model = onnx.load(path, load_external_data=False)
    is_auto = external_data == "auto"
    inner = any(uses_external_data(tensor) for graph in _inner(model) for tensor in graph.initializer)
    if ready and is_auto and not inner:
        return
    size = _size(model, path.parent)
    beside = external_data == "always" or (is_auto and (size >= BESIDE or (ready and inner)))
    if not beside and size > ONE_FILE:
        raise ExportError(
            f"{path.name} has {size:,} bytes of weights, and one file of ONNX holds at most {ONE_FILE:,} of them.",
            'Write external_data = "auto" into the recipe, or leave that variant out.',
        )
    if beside or external_files(model):
        save(model, path, beside=beside)


def _inner(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    return list(all_graphs(model.graph))[1:]


def _size(model: onnx.ModelProto, folder: Path) -> int:
    return sum(size for graph in all_graphs(model.graph) for _, size in _weights(graph, folder))


def _weights(graph: onnx.GraphProto, folder: Path) -> list[tuple[onnx.TensorProto, int]]:
    """The weights that are worth a place in a file, with their bytes, in the order in which the graph uses them."""
    names = (name for inner in all_graphs(graph) for node in inner.node for name in node.input)
    ranks = {name: rank for rank, name in enumerate(dict.fromkeys(names))}
    tensors = sorted(graph.initializer, key=lambda tensor: ranks.get(tensor.name, len(ranks)))
    sizes = ((tensor, len(_content(tensor, folder))) for tensor in tensors)
    return [(tensor, size) for tensor, size in sizes if size >= _SMALLEST]


def _move_outwards(model: onnx.ModelProto, folder: Path) -> None:
    """Make the weights of graphs inside nodes those of the outer graph, equal ones of one name once."""
    often = Counter(name for graph in all_graphs(model.graph) for name in _made(graph))
    moved: dict[str, list[onnx.TensorProto]] = {}
    for graph in _inner(model):
        answers = {value.name for value in graph.output}  # these must be the inner graph's own
        for index in reversed(range(len(graph.initializer))):
            tensor = graph.initializer[index]
            name = tensor.name
            if name in answers or not _is_weight(tensor, folder):
                continue
            same = next((one for one in moved.get(name, ()) if _is_same(one, tensor, folder)), None)
            if same is None:
                same = model.graph.initializer.add()
                same.CopyFrom(tensor)
                if often[name] > 1:  # branches may give one name to two values
                    same.name = next(other for number in count(1) if not often[other := f"{name}_{number}"])
                    often[same.name] = 1
                moved.setdefault(name, []).append(same)
            del graph.initializer[index]
            if same.name != name:
                _rename_input(graph, name, same.name)
            for place in reversed([at for at, value in enumerate(graph.value_info) if value.name == name]):
                del graph.value_info[place]


def _made(graph: onnx.GraphProto) -> Iterator[str]:
    """The names that a graph gives to values."""
    yield from (value.name for value in (*graph.input, *graph.initializer))
    yield from (name for node in graph.node for name in node.output)


def _is_same(one: onnx.TensorProto, other: onnx.TensorProto, folder: Path) -> bool:
    alike = one.data_type == other.data_type and list(one.dims) == list(other.dims)
    return alike and np.array_equal(_content(one, folder), _content(other, folder))


def _rename_input(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let the nodes of a graph, and of those inside them, read another value."""
    for inner in all_graphs(graph):
        for node in inner.node:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new


def _is_weight(tensor: onnx.TensorProto, folder: Path) -> bool:
    return len(_content(tensor, folder)) >= _SMALLEST


def _staying(model: onnx.ModelProto, folder: Path, *, beside: bool) -> Iterator[onnx.TensorProto]:
    """What is written into the graph itself: constants of nodes, and weights that do not lie beside it."""
    for number, graph in enumerate(all_graphs(model.graph)):
        moves = beside and not number
        yield from (tensor for tensor in graph.initializer if not (moves and _is_weight(tensor, folder)))
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)


def _content(tensor: onnx.TensorProto, folder: Path) -> memoryview:
    """The bytes of a weight, read from the disk as they are used where they lie beside the graph."""
    if not uses_external_data(tensor):
        return memoryview(tensor.raw_data)
    where = {entry.key: entry.value for entry in tensor.external_data}
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    length = int(where.get("length") or item * math.prod(tensor.dims))
    start = int(where.get("offset") or 0)
    if not length:
        return memoryview(b"")
    return memoryview(np.memmap(folder / where["location"], np.uint8, "r", start, (length,)))  # type: ignore[arg-type]


def _write_data(weights: Sequence[tuple[onnx.TensorProto, int]], path: Path) -> None:
    """Write weights into one file, and into the graph where each of them is."""
    with replacing(path) as begun:
        with begun.open("wb") as file:
            for tensor, size in sorted(weights, key=lambda pair: pair[1] < _PAGE):
                line = _PAGE if size >= _PAGE else _LINE
                start = -(-file.tell() // line) * line
                file.seek(start)
                file.write(_content(tensor, path.parent))
                tensor.ClearField("raw_data")
                del tensor.external_data[:]
                tensor.data_location = onnx.TensorProto.EXTERNAL
                for key, value in (("location", path.name), ("offset", str(start)), ("length", str(size))):
                    tensor.external_data.add(key=key, value=value)
        begun.chmod(0o644)
