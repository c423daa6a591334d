"""The export worker where the exporter writes a weight otherwise than the checkpoint has it, without a word.

Runs as ``python -m tests.export.wrong_export REQUEST``, in place of ``modeldrop.export.workers.export``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from optimum.exporters.onnx import onnx_export_from_model

# Before transformers: it keeps away what transformers imports needlessly.
from modeldrop.export.messages import ExportRequest
from modeldrop.export.models.shared import optimum_export
from modeldrop.export.workers.export import work
from modeldrop.export.workers.protocol import serve


def wrong(model: Any, folder: Path, **options: Any) -> None:
    onnx_export_from_model(model, folder, **options)
    graph = onnx.load(folder / "model.onnx")
    weight = next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 2)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(graph, folder / "model.onnx")


if __name__ == "__main__":
    with mock.patch.object(optimum_export, "onnx_export_from_model", wrong):
        serve(work, ExportRequest)
