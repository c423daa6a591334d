"""A source's ONNX graphs in the place of a PyTorch model: they answer calls as transformers' models do.

A graph that answers at once is run by onnxruntime itself, whatever kind of model config.json says it is; graphs that
write token by token are run by optimum's classes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import torch

from modeldrop.errors import ExportError, SourceError
from modeldrop.export.onnx_files import external_files
from modeldrop.export.onnx_weights import save
from modeldrop.format.variants import FP32
from modeldrop.util.text import first_line

FOLDER = "onnx"
_MODEL = "model.onnx"
_HIDDEN, _POSITIONS, _SEGMENTS = "last_hidden_state", "position_ids", "token_type_ids"
_TOKENS = "token_embeddings"
"""What optimum calls the hidden states of a sentence-transformers model: here they get the name that others read."""
_ANSWERS = {
    "AutoModel": (_HIDDEN, "sentence_embedding", "pooler_output"),
    "AutoModelForSequenceClassification": ("logits",),
    "AutoModelForTokenClassification": ("logits",),
    "AutoModelForQuestionAnswering": ("start_logits", "end_logits"),
    "AutoModelForMaskedLM": ("logits",),
    "AutoModelForImageClassification": ("logits",),
    "AutoModelForAudioClassification": ("logits",),
    "AutoModelForCTC": ("logits",),
    "AutoModelForObjectDetection": ("logits", "pred_boxes"),
    "AutoModelForZeroShotImageClassification": ("logits_per_image",),
}
_KNOWN = {
    "input_ids", "attention_mask", "pixel_values", "input_values", "input_features", _SEGMENTS, _POSITIONS,
}  # fmt: skip


def has_onnx(folder: Path) -> bool:
    """Whether a source's folder holds ONNX graphs instead of weights."""
    return (folder / FOLDER).is_dir()


class OnnxModel:
    """One graph on the CPU.

    Args:
        path: the graph.
        config: the model's.
        needed: names of outputs, one of which the task needs.

    Raises:
        SourceError: it lacks them all, wants an input that nobody gives, or onnxruntime cannot open it.
    """

    def __init__(self, path: Path, config: Any, needed: Sequence[str]) -> None:
        self.config = config
        self.ready = path.parent
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise SourceError(f"onnxruntime cannot open the graph: {first_line(error)}", "Export it again.") from error
        self._inputs = [tensor.name for tensor in self._session.get_inputs()]
        self._own_names = [tensor.name for tensor in self._session.get_outputs()]
        self._names = _renamed(self._own_names)
        if not set(needed) & set(self._names):
            raise SourceError(
                f"The graph answers {', '.join(self._own_names)}; for this task it must answer {' or '.join(needed)}.",
                "Export it with output_names, or name the task that it was made for.",
            )
        unknown = sorted(set(self._inputs) - _KNOWN)
        if unknown:
            raise SourceError(
                f"The graph wants {', '.join(unknown)}, and nothing in the source tells what to give it.",
                f"Export it with no other inputs than {', '.join(sorted(_KNOWN))}.",
            )

    def answers(self, output: str) -> bool:
        """Whether it has this output."""
        return output in self._names

    def __call__(self, **inputs: Any) -> Any:
        """Its outputs, as attributes.

        Args:
            inputs: tensors by name; what the graph does not take is passed over.

        Raises:
            SourceError: it fails on them.
        """
        given = {name: tensor for name, tensor in inputs.items() if name in self._inputs}
        shape = inputs["input_ids"].shape if "input_ids" in inputs else (1, 1)
        if _POSITIONS in self._inputs:  # from 0, padding included, as PyTorch counts where nothing is given
            given.setdefault(_POSITIONS, torch.arange(shape[1]).expand(shape))
        if _SEGMENTS in self._inputs:
            given.setdefault(_SEGMENTS, torch.zeros(shape, dtype=torch.long))
        try:
            outputs = self._session.run(self._own_names, {name: tensor.numpy() for name, tensor in given.items()})
        except Exception as error:
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in given.items())
            raise SourceError(
                f"The graph fails on {shapes}: {first_line(error)}",
                "Where its positions are too few, set max_length in the recipe to their number.",
            ) from error
        return SimpleNamespace(**dict(zip(self._names, map(torch.from_numpy, outputs), strict=True)))


def load_onnx(folder: Path, kind: Any, config: Any) -> Any:
    """The graphs as a model that answers as ``kind`` would.

    Args:
        folder: the source.
        kind: the transformers class that would load its weights.
        config: the model's.

    Raises:
        SourceError: a graph lacks what the task needs, or does not open.
    """
    if kind.__name__ in _ANSWERS:
        return OnnxModel(folder / FOLDER / _MODEL, config, _ANSWERS[kind.__name__])
    import optimum.onnxruntime

    one = {"file_name": _MODEL} if (folder / FOLDER / _MODEL).is_file() else {}
    try:
        model = getattr(optimum.onnxruntime, kind.__name__.replace("Auto", "ORT")).from_pretrained(
            folder, subfolder=FOLDER, local_files_only=True, **one
        )
    except Exception as error:
        said = first_line(error)
        raise SourceError(f"optimum cannot open the ONNX graphs: {said}", "Export them again with optimum.") from error
    model.ready = folder / FOLDER
    return model


def is_ready(model: Any) -> bool:
    """Whether a model was loaded by ``load_onnx``."""
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
        outputs = [tensor.name for tensor in graph.graph.output]
        renamed = _renamed(outputs)
        if renamed == outputs and not external_files(graph):
            shutil.copyfile(source, target)
            continue
        beside = bool(external_files(graph))
        graph = onnx.load(source)
        for tensor, name in zip(graph.graph.output, renamed, strict=True):
            if tensor.name != name:  # nodes may go on with it under its old name
                graph.graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [name], name=name))
                tensor.name = name
        save(graph, target, beside=beside)


def _renamed(outputs: Sequence[str]) -> list[str]:
    return [_HIDDEN if name == _TOKENS and _HIDDEN not in outputs else name for name in outputs]
