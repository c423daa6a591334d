"""The config.pbtxt of an entry of Triton's model repository, made of a graph's signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from modeldrop.format.manifest import Graph, Tensor, Variant

CONFIG = "config.pbtxt"
MODEL_FILE = "model.onnx"
_TYPES = {
    "bool": "TYPE_BOOL", "float16": "TYPE_FP16", "bfloat16": "TYPE_BF16", "float32": "TYPE_FP32", "float": "TYPE_FP32",
    "float64": "TYPE_FP64", "double": "TYPE_FP64", "string": "TYPE_STRING",
} | {f"{kind}{bits}": f"TYPE_{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}  # fmt: skip


def unservable(graphs: Iterable[Graph]) -> str:
    """The first output or input of a type that Triton does not know, as a message has it; "" where there is none."""
    for graph in graphs:
        for tensor in (*graph.inputs, *graph.outputs):
            if tensor.dtype not in _TYPES:
                return f"{tensor.name} of {graph.role} is {tensor.dtype}"
    return ""


def configs(variant: Variant, renamed: Mapping[str, str]) -> dict[str, bytes]:
    """The files that are written into a snapshot for Triton, by their paths: none where it is not for Triton.

    Args:
        variant: the one that is fetched.
        renamed: path in the version to path in the snapshot.
    """
    return {
        f"{role}/{CONFIG}": "".join(_lines(graph)).encode()
        for role, graph in variant.signature.items()
        if renamed.get(graph.path) == f"{role}/1/{MODEL_FILE}"
    }


def _lines(graph: Graph) -> Iterator[str]:
    yield f'name: "{_escaped(graph.role)}"\nbackend: "onnxruntime"\n'
    # Whole shapes, the batch's dimension in them: whether Triton may put requests together the graph does not say.
    yield "max_batch_size: 0\n"
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        yield f"{kind} [\n" + ",\n".join(map(_tensor, tensors)) + "\n]\n"


def _tensor(tensor: Tensor) -> str:
    # A value without dimensions is one of one element there.
    dims = ", ".join(dim if dim.isdecimal() else "-1" for dim in tensor.shape) or "1"
    scalar = "" if tensor.shape else "\n    reshape: { shape: [ ] }"
    return (
        f'  {{\n    name: "{_escaped(tensor.name)}"\n    data_type: {_TYPES[tensor.dtype]}\n    dims: [ {dims} ]'
        f"{scalar}\n  }}"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
