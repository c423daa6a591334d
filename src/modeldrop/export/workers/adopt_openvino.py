"""Take a ready OpenVINO graph as a variant, and record what it answers: it is the original.

Runs as ``python -m modeldrop.export.workers.adopt_openvino REQUEST``; request and answer are those of ``export``. The
source folder has the graph in ``openvino/openvino_model.xml``, with its ``.bin`` beside it.
"""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modeldrop.errors import SourceError
from modeldrop.export.messages import ExportAnswer, ExportRequest
from modeldrop.export.models.shared.openvino_as_model import GRAPH
from modeldrop.export.openvino_ir import Constant, read_ir
from modeldrop.export.workers import export
from modeldrop.export.workers.protocol import Events, serve

_FLOATS = {"f32": np.float32, "f16": np.float16}


def work(request: ExportRequest, events: Events) -> ExportAnswer:
    """Check the weights, then do what ``export`` does, with openvino in PyTorch's place."""
    events.step("check")
    check_weights(request.checkpoint.folder / GRAPH)
    done, release = export.work(request, events), importlib.metadata.version("openvino")
    return replace(done, framework=f"OpenVINO {release}", toolchain={**done.toolchain, "openvino": release})


def check_weights(path: Path) -> None:
    """Refuse a graph with weights that are no numbers.

    Raises:
        SourceError: names the first one with NaN or infinity.
    """
    data = np.memmap(path.with_suffix(".bin"), np.uint8, mode="r")
    for constant in read_ir(path).constants:
        if constant.dtype in _FLOATS and not _is_finite(data, constant):
            raise SourceError(
                f"The weight {constant.name} of the OpenVINO graph holds NaN or infinity.",
                "Check the training run, or the conversion, that saved it.",
            )


def _is_finite(data: Any, constant: Constant) -> bool:
    dtype = np.dtype(_FLOATS[constant.dtype])
    count = math.prod(constant.shape)
    array = data[constant.offset : constant.offset + count * dtype.itemsize].view(dtype)
    # Masks are filled with -inf, and so are the constants they are made of: a few numbers, never a matrix.
    matrix = len(constant.shape) > 1 and min(constant.shape) > 1
    return not np.isnan(array).any() and (not matrix or bool(np.isfinite(array).all()))


if __name__ == "__main__":
    serve(work, ExportRequest)
