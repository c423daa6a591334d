"""Makes sources that hold OpenVINO graphs alone; runs as ``python -m tests.export.openvino_graphs DIR``.

As optimum-intel leaves them: config, tokenizer, and the graph at the root in fp32, or in fp16 in ``openvino/``.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import torch
import transformers
from openvino import PartialShape, convert_model, save_model

# Before transformers: it keeps away what transformers imports needlessly.
from modeldrop.export.models.shared import optimum_export
from modeldrop.export.quantizers import openvino
from tests.helpers.checkpoints import bert, llama, make_embedder, vit

ROOT = "openvino_model.xml"
FOLDER = f"openvino/{ROOT}"


def save(checkpoint: Path, kind: type, task: str, target: Path, *, bits: int) -> None:
    """The checkpoint with its graph in the place of its weights."""
    model = kind.from_pretrained(checkpoint).eval()  # type: ignore[attr-defined]
    optimum_export.export(model, task, ("model",), checkpoint / "exported")
    weights = checkpoint / "exported" / "onnx" / "model.onnx"
    openvino.make(weights, checkpoint / target, {"bits": bits, "keep": ()})
    shutil.rmtree(checkpoint / "exported")
    (checkpoint / "model.safetensors").unlink()


def save_traced(checkpoint: Path, kind: type, target: Path) -> None:
    """The same by OpenVINO's own converter of PyTorch models, as optimum-intel has it: inputs have several names."""
    model = kind.from_pretrained(checkpoint).eval()  # type: ignore[attr-defined]
    ids = torch.ones((2, 5), dtype=torch.long)
    example = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ids)
    graph = convert_model(model, example_input=example)
    graph.reshape({port: PartialShape([-1, -1]) for port in graph.inputs})
    save_model(graph, checkpoint / target, compress_to_fp16=False)
    (checkpoint / "model.safetensors").unlink()


def main(folder: Path) -> None:
    classifier = bert(folder / "classifier", "BertForSequenceClassification", labels=3)
    save_traced(classifier, transformers.AutoModelForSequenceClassification, Path(ROOT))
    embedder = make_embedder(bert(folder / "embedder"), {"pooling_mode_mean_tokens": True}, dense=True, normalize=True)
    save(embedder, transformers.AutoModel, "feature-extraction", Path(FOLDER), bits=16)
    save(llama(folder / "writer"), transformers.AutoModelForCausalLM, "text-generation-with-past", Path(ROOT), bits=16)
    seer = vit(folder / "seer")
    save(seer, transformers.AutoModelForImageClassification, "image-classification", Path(FOLDER), bits=32)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
