"""The batch job: fetches what `current` names, and scores a table. Needs onnxruntime and numpy; no scikit-learn."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import onnxruntime

import modeldrop

TYPES = {"float32": np.float32, "int64": np.int64, "string": np.str_}

registry, table = sys.argv[1:]
snapshot = modeldrop.fetch(f"{registry}/credit", self_test=True)
session = onnxruntime.InferenceSession(snapshot.model_file)
with Path(table).open(newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
inputs = {
    tensor.name: np.array([[row[tensor.name]] for row in rows]).astype(TYPES[tensor.dtype])
    for tensor in snapshot.signature["model"].inputs
}
_, probabilities = session.run(None, inputs)
for row, (_, pays) in zip(rows, probabilities, strict=True):
    print(f"{row['city']},{pays:.4f}")
