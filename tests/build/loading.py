"""What the exporting process makes of checkpoints, many of them in one process: ``python -m tests.build.loading DIR``.

Prints a JSON object: the error by name of the checkpoint folder in DIR, "" for one that loads.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any
from unittest import mock

# Before transformers: it keeps away what transformers imports needlessly.
from modeldrop.build.workers import optimum_export  # isort: skip

import torch
import transformers

from modeldrop.build.workers.checkpoint import Checkpoint, load_model, load_tokenizer
from modeldrop.errors import ModeldropError


class Forgetful:
    """Loads as a library does that has changed its mind about a weight, or about the config."""

    def __init__(self, *, weight: bool) -> None:
        self._weight = weight

    def from_pretrained(self, *arguments: Any, **options: Any) -> Any:
        model, info = transformers.AutoModelForSequenceClassification.from_pretrained(*arguments, **options)
        if self._weight:
            torch.nn.init.normal_(model.bert.encoder.layer[0].output.dense.weight)
        else:
            model.config.layer_norm_eps = 1e-5
        return model, info


_KINDS: dict[str, Any] = {
    "without_its_head": transformers.AutoModel,
    "forgotten_weight": Forgetful(weight=True),
    "misread_config": Forgetful(weight=False),
}


def load(folder: Path) -> str:
    checkpoint = Checkpoint(folder, "text-classification")
    kind = _KINDS.get(folder.name, transformers.AutoModelForSequenceClassification)
    try:
        load_tokenizer(checkpoint, load_model(checkpoint, kind).config)
    except ModeldropError as error:
        return str(error)
    return ""


def modes(output: Path) -> dict[str, int]:
    """The modes of what is exported where the exporter writes for its owner alone."""

    def write(model: Any, folder: Path, **options: Any) -> None:
        folder.mkdir(parents=True)
        for name in ("model.onnx", "model.onnx_data"):
            (folder / name).write_bytes(b"x")
            (folder / name).chmod(0o600)

    model = transformers.BertModel(transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    with mock.patch.object(optimum_export, "onnx_export_from_model", write):
        optimum_export.export(model, "feature-extraction", ("model",), output)
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (output / "onnx").iterdir()}


if __name__ == "__main__":
    root = Path(sys.argv[1])
    errors = {folder.name: load(folder) for folder in sorted(root.iterdir())}
    sys.stdout.write(json.dumps({"errors": errors, "modes": modes(root / "exported")}))
