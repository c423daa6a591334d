"""optimum's exporter, behind one function: nothing of its thirty parameters leaks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimum.exporters.onnx import onnx_export_from_model
from optimum.exporters.tasks import TasksManager

from modeldrop.errors import ExportError, TaskError
from modeldrop.export.models.shared import onnx_as_model
from modeldrop.export.models.shared.openvino_as_model import OpenVinoModel
from modeldrop.format.variants import FP32
from modeldrop.util.text import first_line


def export(
    model: Any,
    task: str,
    roles: Sequence[str],
    output: Path,
    *,
    outputs: Sequence[str] = (),
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Write the graphs of a model in fp32 into a version; ready ones as they are.

    Args:
        model: it, loaded by ``checkpoint.load_model``.
        task: optimum's name of the task, such as ``text-generation-with-past``.
        roles: the graphs that are kept.
        output: the version's folder.
        outputs: what the only graph is to answer, each with a free batch; () for what optimum takes.
        sizes: of the inputs that are traced, by optimum's names, where it cannot tell them from the config.

    Raises:
        TaskError: optimum does not know how to export this architecture for the task.
        ExportError: it failed, or did not write a graph.
    """
    if isinstance(model, OpenVinoModel):
        model.copy(output)
        return
    if onnx_as_model.is_ready(model):
        onnx_as_model.copy_graphs(model, roles, output)
        return
    model_type = model.config.model_type
    supported = (
        TasksManager.get_supported_tasks_for_model_type(model_type, "onnx", library_name="transformers")
        if (
            model_type in TasksManager._SUPPORTED_MODEL_TYPE  # noqa: SLF001
        )
        else {}
    )
    if task not in supported:
        raise TaskError(
            f"optimum cannot export a {model_type} model for {task}.",
            f"It can for: {', '.join(supported)}."
            if supported
            else "It does not know this architecture. Export it with a program that does; give the ONNX as the source.",
        )
    folder, opset = output / ".export", getattr(model, "opset", None)
    try:
        # Our own comparison is stricter than optimum's validation, which only warns.
        onnx_export_from_model(
            model,
            folder,
            task=task,
            opset=opset,
            do_validation=False,
            custom_onnx_configs={roles[0]: _with_outputs(model, task, outputs)} if outputs else None,
            **_shapes(model),
            **(sizes or {}),
        )
    except Exception as error:
        version = f" with opset {opset}" if opset else ""
        raise ExportError(
            f"optimum could not export the model{version}: {first_line(error)}",
            "Leave opset out of the recipe: the exporter then takes the one that suits the model." if version else "",
        ) from error
    for role in roles:
        target = output / FP32.path(role)
        target.parent.mkdir(parents=True, exist_ok=True)
        parts = sorted(folder.glob(f"{role}.onnx*"))
        if not parts:
            raise ExportError(f"optimum did not write {role}.onnx.", "Report this, with the model's name.")
        for path in parts:
            path.chmod(0o644)
            path.replace(target.parent / path.name)
    shutil.rmtree(folder)


def _with_outputs(model: Any, task: str, outputs: Sequence[str]) -> Any:
    """The description that optimum has of an export, with other outputs."""
    make = TasksManager.get_exporter_config_constructor(
        model=model, exporter="onnx", task=task, library_name="transformers"
    )
    description = make(model.config)
    kind = type(description)
    named = {name: {0: "batch_size"} for name in outputs}
    description.__class__ = type(kind.__name__, (kind,), {"outputs": property(lambda _: named)})
    return description


def _shapes(model: Any) -> dict[str, int]:
    """Sizes of the tracing inputs that optimum does not read from the config: Whisper's window is 30 s."""
    heard = getattr(model.config, "max_source_positions", None) if model.main_input_name == "input_features" else None
    return {"nb_max_frames": 2 * heard} if heard else {}
