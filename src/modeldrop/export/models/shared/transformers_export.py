"""transformers' own exporter, of release 5, behind one function: torch's dynamo traces the model into one graph.

Which dimensions stay free is said, not guessed, and proven: the graph is run on batches and lengths that were not
traced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch.export import Dim
from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

from modeldrop.errors import ExportError
from modeldrop.export.models.shared.dynamo_graph import forget_origin, rename_axes, save_program
from modeldrop.format.manifest import MODEL
from modeldrop.format.variants import FP32
from modeldrop.util.text import first_line

BATCH, LENGTH = "batch_size", "sequence_length"
"""The free axes, by the names that the ecosystem knows from optimum's graphs."""
_OPSET = 18
_MOST_BATCH = 1 << 16
_TRACED = (2, 17)
_OTHER_BATCH = 3
_LONGEST = 2048
"""How long a text the graph is tried with at most: attention over more takes gigabytes."""
_PADDED = 3
_CLOSE = 1e-3
_MASK = "attention_mask"
_BY_TOKEN = ("start_logits", "end_logits")
_VIOLATED = re.compile(r"Constraints violated \(([\w, ]+)\)|[Nn]ot all values of (\w+)")


def export(
    model: Any, inputs: Mapping[str, torch.Tensor], answers: Sequence[str], max_length: int | None, output: Path
) -> None:
    """Write a model that reads texts or sees pictures at once as one graph in fp32 into a version.

    Args:
        model: it, loaded by ``checkpoint.load_model``.
        inputs: a batch of texts, as the tokenizer makes them: of what the model takes, all tensors of one shape; or of
            pictures.
        answers: the outputs that are kept, such as ``last_hidden_state``.
        max_length: how many tokens it can read; None for pictures, of which the batch alone is free.
        output: the version's folder.

    Raises:
        ExportError: it cannot be exported, or only with a dimension that is not free; the message names it.
    """
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    kind = model.config.model_type
    axes = {0: Dim(BATCH, min=1, max=_MOST_BATCH)}
    if max_length is not None:
        axes[1] = Dim(LENGTH, min=1, max=max_length)
    config = OnnxConfig(
        opset_version=getattr(model, "opset", None) or _OPSET, dynamic_shapes=dict.fromkeys(inputs, axes)
    )
    traced = _shaped(inputs, _TRACED[0], _fitting(_TRACED[1], max_length))
    try:
        program = OnnxExporter().export(model, traced, config=config).program
    except Exception as error:
        found = _VIOLATED.search(str(error))
        if found:
            said = next((line for line in str(error).splitlines() if "values of" in line), first_line(error))
            raise _frozen(found[1] or found[2], kind, f"torch says: {said.strip(' -')}") from error
        raise ExportError(
            f"transformers could not export the {kind} model: {first_line(error)}",
            "Export it with a program that knows it, and give the folder of ONNX as the source.",
        ) from error
    _keep_outputs(program, answers)
    _name_axes(program.graph, kind, (BATCH, LENGTH)[: len(axes)])
    forget_origin(program)
    path = output / FP32.path(MODEL)
    save_program(program, path)
    _check_shapes(model, inputs, path, answers, max_length)


def _keep_outputs(program: Any, answers: Sequence[str]) -> None:
    outputs = program.graph.outputs
    kept = [value for name in answers for value in outputs if value.name == name]
    if len(kept) < len(answers):
        raise ExportError(
            f"The graph that transformers exported answers {', '.join(value.name for value in outputs)}, not "
            f"{', '.join(answers)}.",
            "Report this, with the model's name.",
        )
    outputs[:] = kept
    RemoveUnusedNodesPass()(program)


def _name_axes(graph: Any, kind: str, axes: Sequence[str]) -> None:
    """Give the free axes, the first ones of every input, their names in every value; refuse one that is not free."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for axis, dim in zip(axes, value.shape[: len(axes)], strict=True):
            if isinstance(dim, int):
                raise _frozen(axis, kind, f"{value.name} has {dim}")
            names[str(dim.value)] = axis
    rename_axes(graph, names)


def _check_shapes(
    model: Any, inputs: Mapping[str, torch.Tensor], path: Path, answers: Sequence[str], max_length: int | None
) -> None:
    """Refuse a graph that answers otherwise for a batch or a length that was not traced, whatever it declares."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch, length = _TRACED[0], _fitting(_TRACED[1], max_length)
    longest = _fitting(_LONGEST, max_length)
    shapes = [(BATCH, 1, length), (BATCH, _OTHER_BATCH, length)]
    if max_length is not None:
        shapes += [
            (LENGTH, batch, 1),
            (LENGTH, 1, longest),
            (LENGTH, _OTHER_BATCH, min(longest, 130)),
        ]
    for axis, rows, columns in shapes:
        feeds = _shaped(inputs, rows, columns)
        with torch.inference_mode():
            result = model(**feeds)
        shape = f"a batch of {rows}" + (f" texts of {columns} tokens" if max_length is not None else "")
        try:
            found = session.run(list(answers), {name: tensor.numpy() for name, tensor in feeds.items()})
        except Exception as error:
            raise _frozen(axis, model.config.model_type, f"{shape} fails: {first_line(error)}") from error
        for answer, got in zip(answers, found, strict=True):
            wanted = getattr(result, answer).numpy()
            by_token = max_length is not None and (wanted.ndim == 3 or answer in _BY_TOKEN)
            read = feeds[_MASK].numpy().astype(bool) if by_token and _MASK in feeds else ...
            difference = np.abs(got - wanted)[read].max() if got.shape == wanted.shape else np.inf
            if not difference <= _CLOSE * max(1.0, np.abs(wanted).max()):
                raise _frozen(axis, model.config.model_type, f"of {shape}, answers differ by {difference:.2g}")


def _fitting(length: int, max_length: int | None) -> int:
    return length if max_length is None else min(length, max_length)


def _shaped(inputs: Mapping[str, torch.Tensor], batch: int, length: int) -> dict[str, torch.Tensor]:
    """Inputs of another shape, made by repeating what is there; every second text ends with padding.

    Pictures keep their size; no two are the same.
    """
    made = {}
    for name, tensor in inputs.items():
        rows, columns = tensor.shape[:2]
        if tensor.ndim > 2:
            faded = torch.linspace(1.0, 0.5, batch).reshape(-1, *[1] * (tensor.ndim - 1))
            made[name] = tensor.repeat(-(-batch // rows), *[1] * (tensor.ndim - 1))[:batch] * faded
        else:
            made[name] = tensor.repeat(-(-batch // rows), -(-length // columns))[:batch, :length].contiguous()
    if _MASK not in made:
        return made  # SigLIP's tokenizers give none, and pictures have none
    mask = torch.ones_like(made[_MASK])
    if length > _PADDED:
        mask[1::2, -_PADDED:] = 0
    return made | {_MASK: mask}


def _frozen(axis: str, kind: str, why: str) -> ExportError:
    return ExportError(
        f"The dimension {axis} of this {kind} model does not stay free when transformers exports it: "
        f"{why[:300].rstrip('.')}.",
        "A graph of one size would answer wrongly, or not at all. Export it with a program that leaves it free, and "
        "give the folder of ONNX as the source.",
    )
