"""A graph that torch's dynamo exporter has made: its free axes get names, what tells of this machine is taken out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_ir

from modeldrop.export.graph_files import ONE_FILE

IR_VERSION = 9  # onnxruntime 1.15 reads it


def rename_axes(graph: Any, names: Mapping[str, str]) -> None:
    """Give the free axes other names, in every value.

    Args:
        graph: it.
        names: what to call them, by what they are called; parts of products and sums too.
    """

    def named(dim: Any) -> Any:
        if isinstance(dim, int) or dim.value is None:
            return dim  # without a name it may differ from every other; as a name, None would be one size for all
        return re.sub(r"\w+", lambda word: names.get(word[0], word[0]), dim.value)

    for value in _values(graph):
        if value.shape is not None:
            value.shape = onnx_ir.Shape([named(dim) for dim in value.shape])


def forget_origin(program: Any) -> None:
    """Remove what tells of this machine: the exporter notes the line of Python that each node comes from."""
    program.ir_version = min(program.ir_version, IR_VERSION)
    program.metadata_props.clear()
    program.graph.metadata_props.clear()
    for node in program.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*_values(program.graph), *program.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None


def save_program(program: Any, path: Path) -> None:
    """Write it, with its weights beside it where they are too large for one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = sum(value.const_value.nbytes for value in program.graph.initializers.values()) > ONE_FILE
    onnx_ir.save(program, path, external_data=f"{path.name}_data" if large else None)


def _values(graph: Any) -> Iterator[Any]:
    yield from graph.inputs
    for node in graph.all_nodes():
        yield from node.outputs
