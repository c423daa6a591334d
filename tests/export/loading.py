"""What the exporting process makes of checkpoints, many in one process: ``python -m tests.export.loading DIR FILE``.

Writes a JSON object to FILE: ``errors``, by name of the checkpoint folder in DIR, "" for one that loads; ``modes`` of
what is exported, and ``swallowed``, options that the exporter takes without knowing them; ``said``, what the libraries
themselves say where they fail.
"""

from __future__ import annotations

import inspect
import json
import stat
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from optimum.exporters.onnx import onnx_export_from_model

from modeldrop.errors import ModeldropError
from modeldrop.export.messages import Checkpoint

# Before transformers: it keeps away what transformers imports needlessly.
from modeldrop.export.models.shared import optimum_export
from modeldrop.export.models.shared.checkpoint import load_config, load_original
from modeldrop.export.models.shared.tokenizer import load_tokenizer


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
        load_tokenizer(checkpoint, load_config(checkpoint))
        load_original(checkpoint, kind)
    except ModeldropError as error:
        return str(error)
    return ""


def exported(output: Path) -> dict[str, Any]:
    """What is exported where the exporter writes for its owner alone, and how the exporter is asked."""
    known = inspect.signature(onnx_export_from_model).parameters
    asked: set[str] = set()

    def write(model: Any, folder: Path, **options: Any) -> None:
        asked.update(options)
        folder.mkdir(parents=True)
        for name in ("model.onnx", "model.onnx_data"):
            (folder / name).write_bytes(b"x")
            (folder / name).chmod(0o600)

    with mock.patch.object(optimum_export, "onnx_export_from_model", write):
        optimum_export.export(tiny(), "feature-extraction", ("model",), output)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (output / "onnx").iterdir()}
    return {"modes": modes, "swallowed": sorted(asked - set(known)), "validated": "do_validation" in asked}


def tiny() -> Any:
    return transformers.BertModel(transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))


def said(folder: Path) -> dict[str, str]:
    """What libraries raise, by what is the matter."""
    fnet = transformers.FNetModel(transformers.FNetConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1))
    code = folder / "code"
    code.mkdir()
    (code / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoConfig": "c.C", "AutoModel": "m.M"}}')
    failures: dict[str, Callable[[], Any]] = {
        "optimum's list": lambda: optimum_export.export(fnet, "feature-extraction", ("model",), folder / "fnet"),
        "opset": lambda: onnx_export_from_model(
            tiny(), folder / "opset", task="feature-extraction", opset=9, do_validation=False
        ),
        "torch's opset": lambda: torch.onnx.export(
            Attention(), (torch.ones(1, 2, 4, 4),), folder / "attention.onnx", opset_version=12, dynamo=False
        ),
        "torch's memory": lambda: torch.empty(1 << 50),
        "numpy's memory": lambda: np.ones(1 << 50),
        "code": lambda: transformers.AutoModel.from_pretrained(code, trust_remote_code=False),
    }
    return {name: _message(fail) for name, fail in failures.items()}


class Attention(torch.nn.Module):
    """Asks for an operation that ONNX has only since opset 14."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


def _message(fail: Callable[[], Any]) -> str:
    try:
        fail()
    except Exception as error:  # noqa: BLE001  any of them is to become a sentence
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    root = Path(sys.argv[1])
    errors = {folder.name: load(folder) for folder in sorted(root.iterdir())}
    found = {"errors": errors, "said": said(root), **exported(root / "exported")}
    Path(sys.argv[2]).write_text(json.dumps(found))
