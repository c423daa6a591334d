"""Static 8-bit quantization: weights and activations have fixed ranges, which calibration data give.

Without the work of finding ranges at every run. Convolutions gain most; of transformers, text embedders lose more than
with dynamic quantization. Weights use 7 of 8 bits, so that every x86 answers the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from modeldrop.export.graph_files import ONE_FILE
from modeldrop.export.onnx_files import all_graphs, forget_weight_types, weight_bytes
from modeldrop.export.onnx_weights import settle_data

_TYPES = ("Conv", "Gather", "Gemm", "MatMul")
_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


def make(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """See ``Quantizer``.

    Options: ``calibration``, the recipe's file; ``folder``, of tokenizer.json; ``keep``, names of nodes.
    """
    graph = onnx.load(source, load_external_data=False)
    names = [value.name for value in graph.graph.input]
    target.parent.mkdir(parents=True, exist_ok=True)
    large = weight_bytes(source) > ONE_FILE
    forget_weight_types(graph)
    # External data is found relative to the graph, so the copy is written beside it.
    begun = source.with_name(f".{target.name}")
    onnx.save_model(graph, begun)
    try:
        _quantize(begun, target, names, graph, options, large=large)
    finally:
        begun.unlink()
    if large:
        settle_data(target)
    target.chmod(0o644)


def _quantize(
    begun: Path, target: Path, names: list[str], graph: onnx.ModelProto, options: Mapping[str, Any], *, large: bool
) -> None:
    quantize_static(
        begun,
        target,
        _Inputs(options["calibration"], options["folder"], names),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(_TYPES),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[*options["keep"], *_products_of_activations(graph)],
        use_external_data_format=large,
    )


def _products_of_activations(model: onnx.ModelProto) -> list[str]:
    """The products inside attention: they have no weights to make small, and lose most."""
    weights = {tensor.name for graph in all_graphs(model.graph) for tensor in graph.initializer}
    return [
        node.name
        for graph in all_graphs(model.graph)
        for node in graph.node
        if node.op_type == "MatMul" and weights.isdisjoint(node.input)
    ]


class _Inputs(CalibrationDataReader):  # type: ignore[misc]
    """One input after the other, as onnxruntime asks for them."""

    def __init__(self, path: Path, tokenizer: Path, names: list[str]) -> None:
        self._inputs = _arrays(path, names) if path.suffix == ".npz" else _texts(path, tokenizer, names)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)


def _arrays(path: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    with np.load(path) as file:
        arrays = {name: file[name] for name in names}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: array[index : index + 1] for name, array in arrays.items()}


def _texts(path: Path, folder: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    import tokenizers  # models that read no texts are built without it

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for line in path.read_text("utf-8").splitlines():
        if line.strip():
            encoding = tokenizer.encode(line.strip())
            yield {name: np.array([getattr(encoding, _COLUMNS[name])], np.int64) for name in names}
