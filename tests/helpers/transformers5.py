"""Small checkpoints of kinds that transformers 5 knows, and what its exporter makes of them; runs in its environment.

Runs as a program: ``make KIND FOLDER`` writes a checkpoint; ``export FOLDER KIND...``, also behind it, exports one of
each in the way the exporter's worker does, compares the graphs with the originals on shapes that were not traced, and
prints the differences as JSON, or why it was refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from transformers import CONFIG_MAPPING

from modeldrop.errors import ExportError, ModeldropError
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared import loaded_model
from tests.helpers import checkpoints

LONGEST = 192
FROZEN = "frozen"
"""A BERT whose length does not stay free."""
SHAPES = ((1, 1), (1, 17), (3, 1), (3, 40), (5, 130), (2, LONGEST))
"""Batches and lengths, with padding; (2, 17) is traced."""
_SIZE = {
    "hidden_size": checkpoints.HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": LONGEST,
    "initializer_range": 0.2,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
_GEMMA = {
    "num_key_value_heads": 1,
    "head_dim": 16,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
}
_OWN: dict[str, dict[str, Any]] = {
    "embedding_gemma2_text": _GEMMA
    | {"global_head_dim": 32, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 16},
    "eurobert": {"num_key_value_heads": 4, "mask_token_id": 4},
    "gemma3_text": _GEMMA | {"use_bidirectional_attention": True},
    "lfm2": {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]},
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
    "qwen3_5_text": {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    },
    "siglip2_text_model": {"projection_size": checkpoints.HIDDEN},
}
_PICTURES: dict[str, dict[str, Any]] = {
    "dinov2_with_registers": {"mlp_ratio": 2, "patch_size": 16},
    "dinov3_vit": {"patch_size": 16},
}
# Their first positions are the padding token's and those before it.
_SHIFTED = ("jina_embeddings_v3", "roberta", "roberta-prelayernorm", "xlm-roberta")


class _Frozen(transformers.BertModel):
    """A model that computes otherwise for longer texts."""

    def forward(self, input_ids: Any, attention_mask: Any, **others: Any) -> Any:
        return super().forward(input_ids, attention_mask if input_ids.shape[1] < 64 else None)


def make(kind: str, folder: Path) -> Path:
    """Write a checkpoint with random weights, and a tokenizer."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    if kind in _PICTURES:
        return _make_seeing(kind, folder)
    tokenizer = checkpoints.save_tokenizer(folder)
    shift = {"max_position_embeddings": LONGEST + 1} if kind in _SHIFTED else {}
    config: Any = CONFIG_MAPPING[kind](**_SIZE | {"vocab_size": len(tokenizer)} | _OWN.get(kind, {}) | shift)
    if kind == "siglip2_text_model":
        model = transformers.Siglip2TextModel(config)
    else:
        model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    return folder


def _make_seeing(kind: str, folder: Path) -> Path:
    sizes = {name: _SIZE[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    config: Any = CONFIG_MAPPING[kind](**sizes | {"intermediate_size": 128, "image_size": 64} | _PICTURES[kind])
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    processor = {"image_processor_type": "ViTImageProcessor", "size": size, "do_resize": True, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def export_seeing(kind: str, folder: Path) -> dict[str, Any]:
    """Export an embedder of pictures, and compare; or why it was refused."""
    source = make(kind, folder / "source")
    try:
        loaded: Any = loaded_model.load_model(Checkpoint(source, "image-feature-extraction", exporter="transformers"))
        loaded.export(folder / "out")
    except ModeldropError as error:
        return {"refused": error.message}
    path = folder / "out" / "onnx" / "model.onnx"
    session, worst = onnxruntime.InferenceSession(path), 0.0
    for batch in (1, 2, 3, 5):
        pixels = torch.randn((batch, 3, 64, 64), generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            wanted = loaded._model(pixel_values=pixels)
        for name, got in zip(
            ("last_hidden_state", "pooler_output"), session.run(None, {"pixel_values": pixels.numpy()}), strict=True
        ):
            worst = max(worst, float(np.abs(got - getattr(wanted, name).numpy()).max()))
    graph = onnx.load(path).graph
    return {
        "max_abs": worst,
        "inputs": {tensor.name: _axes(tensor)[0] for tensor in graph.input},
        "outputs": {tensor.name: _axes(tensor)[0] for tensor in graph.output},
    }


def export(kind: str, folder: Path) -> dict[str, Any]:
    """Export a checkpoint, and compare; or why it was refused."""
    source = make("bert" if kind == FROZEN else kind, folder / "source")
    loaded = loaded_model.load_model(Checkpoint(source, "feature-extraction", exporter="transformers"))
    if kind == FROZEN:
        loaded._model.__class__ = _Frozen
    try:
        loaded.export(folder / "out")
    except ExportError as error:
        return {"refused": error.message}
    path = folder / "out" / "onnx" / "model.onnx"
    graph = onnx.load(path).graph
    session = onnxruntime.InferenceSession(path)
    taken = [tensor.name for tensor in session.get_inputs()]
    worst = 0.0
    for batch, length in SHAPES:
        feeds = _inputs(batch, length, taken)
        with torch.inference_mode():
            wanted = loaded._model(**feeds).last_hidden_state.numpy()
        (got,) = session.run(["last_hidden_state"], {name: tensor.numpy() for name, tensor in feeds.items()})
        worst = max(worst, float(np.abs(got - wanted)[feeds["attention_mask"].numpy() == 1].max()))
    return {
        "max_abs": worst,
        "inputs": {tensor.name: _axes(tensor) for tensor in graph.input},
        "outputs": {tensor.name: _axes(tensor)[:2] for tensor in graph.output},
        "notes": sum(len(node.metadata_props) + len(node.doc_string) for node in graph.node),
    }


def _inputs(batch: int, length: int, taken: list[str]) -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(batch * length)
    ids = torch.randint(5, 300, (batch, length), generator=numbers)
    mask = torch.ones_like(ids)
    for row in range(1, batch):
        mask[row, max(1, length - 2 * row) :] = 0
    made = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: made[name] for name in taken}


def _axes(tensor: Any) -> list[str]:
    return [dim.dim_param or str(dim.dim_value) for dim in tensor.type.tensor_type.shape.dim]


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    if arguments[0] == "make":
        make(arguments[1], Path(arguments[2]))
        arguments = arguments[3:]
    if arguments:
        _, root, *kinds = arguments
        answer = {kind: (export_seeing if kind in _PICTURES else export)(kind, Path(root) / kind) for kind in kinds}
        sys.stdout.write(f"\n{json.dumps(answer)}\n")
