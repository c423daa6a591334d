"""Small folders as sources: checkpoints and ONNX graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CONFIG = b'{"model_type": "bert", "architectures": ["BertModel"]}'


def safetensors(data: bytes = b"\0" * 16) -> bytes:
    """A safetensors file with one tensor of bytes."""
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def model(folder: Path, **more: bytes) -> Path:
    base = {"config.json": b'{"model_type": "bert"}', "tokenizer.json": b"{}"}
    return write(folder, base | {"model.safetensors": safetensors()} | more)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def graph(path: Path, *, weight: Any = None, shape: tuple[Any, ...] = ("batch", "length"), external: str = "") -> Path:
    """A graph of one product and one branch, whose weights may lie in a file beside it."""
    values = np.ones((4, 4), np.float32) if weight is None else weight
    inner = helper.make_graph(
        [helper.make_node("Identity", ["inner_weight"], ["chosen"])],
        "inner",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, (4, 4))],
        [numpy_helper.from_array(np.ones((4, 4), np.float32), "inner_weight")],
    )
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("If", ["yes"], ["choice"], then_branch=inner, else_branch=inner),
        helper.make_node("MatMul", ["floats", "weight"], ["product"]),
        helper.make_node("MatMul", ["product", "choice"], ["last_hidden_state"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "whole",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)],
            [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ("batch", 4))],
            [
                numpy_helper.from_array(np.asarray(values), "weight"),
                numpy_helper.from_array(np.array(True), "yes"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        onnx.save_model(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save_model(model, path)
    return path


def ready(folder: Path, name: str = "onnx/model.onnx", **options: Any) -> Path:
    graph(folder / name, **options)
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "tokenizer.json").write_bytes(b"{}")
    return folder
