"""What somebody does who has a GLiNER model: gliner makes it, and is asked; runs where gliner is.

Runs as ``python gliner_program.py make FOLDER``, which writes ``checkpoint``; or ``predict FOLDER [GRAPH]``, which
prints what a checkpoint, or the graph at that path of the folder, finds in the texts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from gliner import GLiNER
from gliner.config import GLiNERConfig

TEXTS = ["the harbour at night in Vienna", "Fold the dough four times"]
LABELS = ["city", "time", "food"]
_LEAST = 0.3  # of random weights, every span is somewhere near a half


def make(folder: Path) -> None:
    torch.manual_seed(0)
    encoder = folder / "encoder"  # a BERT that the test has written
    hidden = transformers.AutoConfig.from_pretrained(encoder).hidden_size
    config = GLiNERConfig(
        model_name=str(encoder), hidden_size=hidden, max_width=4, dropout=0.0, span_mode="markerV0", max_len=128
    )
    GLiNER.from_config(config).eval().save_pretrained(folder / "checkpoint")


def predict(folder: Path, graph: str) -> Any:
    options = {"load_onnx_model": True, "onnx_model_file": graph} if graph else {}
    model = GLiNER.from_pretrained(str(folder), local_files_only=True, **options)
    return [model.predict_entities(text, LABELS, threshold=_LEAST) for text in TEXTS]


if __name__ == "__main__":
    action, where, *more = sys.argv[1:]
    if action == "make":
        make(Path(where))
    else:
        sys.stdout.write(f"\n{json.dumps(predict(Path(where), *(more or [''])))}\n")
