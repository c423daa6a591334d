"""A source's ONNX graphs in the place of a PyTorch model: optimum's classes answer calls as transformers' do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from modeldrop.errors import ExportError, SourceError
from modeldrop.export.onnx_files import external_files, save
from modeldrop.format.variants import FP32
from modeldrop.util.text import first_line

FOLDER = "onnx"
_NEEDED = {
    "AutoModel": "last_hidden_state",
    "AutoModelForSequenceClassification": "logits",
    "AutoModelForTokenClassification": "logits",
    "AutoModelForImageClassification": "logits",
}


def has_graphs(folder: Path) -> bool:
    """Whether a source's folder holds ONNX graphs instead of weights."""
    return (folder / FOLDER).is_dir()


def load_onnx(folder: Path, kind: Any) -> Any:
    """The graphs as a model that answers as ``kind`` would.

    Raises:
        SourceError: a graph lacks the output that the task needs.
    """
    import optimum.onnxruntime

    name = "ORTModelForFeatureExtraction" if kind.__name__ == "AutoModel" else kind.__name__.replace("Auto", "ORT")
    path = folder / FOLDER / "model.onnx"
    if path.is_file() and kind.__name__ in _NEEDED:
        outputs = [tensor.name for tensor in onnx.load(path, load_external_data=False).graph.output]
        if _NEEDED[kind.__name__] not in outputs:
            raise SourceError(
                f"The graph answers {', '.join(outputs)}; for this task it must answer {_NEEDED[kind.__name__]}.",
                "Export it with output_names, or name the task that it was made for.",
            )
    try:
        model = getattr(optimum.onnxruntime, name).from_pretrained(
            folder, subfolder=FOLDER, local_files_only=True, **({"file_name": path.name} if path.is_file() else {})
        )
    except Exception as error:
        said = first_line(error)
        raise SourceError(f"optimum cannot open the ONNX graphs: {said}", "Export them again with optimum.") from error
    model.ready = folder / FOLDER
    return model


def is_ready(model: Any) -> bool:
    """Whether a model was loaded by ``load``."""
    return getattr(model, "ready", None) is not None


def copy_graphs(model: Any, roles: Sequence[str], output: Path) -> None:
    """Write the graphs into a version; data under names of any other kind goes where the ecosystem expects it.

    Raises:
        ExportError: the task has a graph that the source has not.
    """
    for role in roles:
        source, target = model.ready / f"{role}.onnx", output / FP32.path(role)
        if not source.is_file():
            raise ExportError(f"The source has no {role}.onnx, which this task needs.", "Name another task.")
        target.parent.mkdir(parents=True, exist_ok=True)
        graph = onnx.load(source, load_external_data=False)
        if external_files(graph):
            save(onnx.load(source), target)
        else:
            shutil.copyfile(source, target)
