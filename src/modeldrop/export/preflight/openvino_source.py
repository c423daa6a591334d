"""Refuse a ready OpenVINO graph that is not the task's; and which variants can be made of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.errors import SourceError
from modeldrop.export.models.family import Family, label_count
from modeldrop.export.openvino_ir import BITS, Ir, Port
from modeldrop.export.sources import Source
from modeldrop.export.variants import CONVOLUTIONAL, makeable, openvino_variant
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import DEFAULT_VARIANTS, FP32, OPENVINO, VARIANTS, VariantSpec

_ORDER = "beam_idx"
_EMBEDDING = "sentence_embedding"
_SMALLER = "openvino-int8"
_ORIGIN = "give the model it was made of (its card's base_model)"


def origin_of(source: Source) -> VariantSpec:
    """The variant that a source's graphs are: all others are made of it, and it gives the original's answers.

    Raises:
        SourceError: its OpenVINO graph is not whole, or has weights of a type that no variant has.
    """
    ir = source.openvino_graph()
    if ir is None:
        return VARIANTS[source.brought]
    if ir.weights not in BITS:
        raise SourceError(
            f"The OpenVINO graph of {source.spec} has "
            + (f"weights of the type {ir.weights}, which no variant has." if ir.weights else "no weights at all."),
            f"Those that have are of the types {', '.join(BITS)}. Export it again, or {_ORIGIN}.",
        )
    return openvino_variant(BITS[ir.weights])


def default_variants(source: Source, *, calibrated: bool = False) -> tuple[str, ...]:
    """What is built of a source where the recipe names no variants.

    Args:
        source: it.
        calibrated: whether there are calibration data.

    Raises:
        SourceError: see ``origin_of``, and ``Source.config``.
    """
    origin = origin_of(source)
    if source.framework:  # what 8 bits do to a graph of any kind nobody knows: who wants it names it
        return (origin.name,)
    if origin.quantizer != OPENVINO:
        if source.config().get("model_type") not in CONVOLUTIONAL:
            return DEFAULT_VARIANTS
        return FP32.name, "int8-static" if calibrated else "fp16"
    return tuple(dict.fromkeys((origin.name, *({_SMALLER} & set(makeable(origin))))))


def embeds(ir: Ir) -> bool:
    """Whether a graph answers one vector for a text."""
    return _EMBEDDING in {port.name for port in ir.outputs}


def check_graph(ir: Ir, spec: str, task: str, family: Family, config: Mapping[str, Any]) -> None:
    """Refuse a graph that is not the task's.

    Raises:
        SourceError: its inputs, outputs or labels are others, or its shapes are fixed.
    """
    what = f"The OpenVINO graph of {spec}"
    if family.openvino_inputs is None:
        raise SourceError(
            f"{what} is one for {task}, and those are not taken as they are.",
            f"Embedders, classifiers and stateful language models are; else {_ORIGIN}.",
        )
    needed, known = family.openvino_inputs
    inputs = [port.name for port in ir.inputs]
    if family.name == "causal" and not (ir.stateful and _ORDER in inputs):
        raise SourceError(
            f"{what} keeps no past: it takes {', '.join(inputs)}, and no {_ORDER}.",
            f"Export it with its past as a state, which is optimum-intel's default; or {_ORIGIN}.",
        )
    missing, others = sorted(needed - set(inputs)), sorted(set(inputs) - needed - known)
    if missing or others:
        more = f"no {missing[0]}" if missing else f"also {others[0]}"
        raise SourceError(
            f"{what} takes {', '.join(inputs) or 'nothing'}: {more}, which {task} "
            f"{'needs' if missing else 'does not know'}.",
            f"Export it for {task}, or name the task that it was made for.",
        )
    for port in ir.inputs:
        _check_free(port, what, 1 if family.name == "vision" else 2)
    wanted = TASKS[task].outputs
    answered = next((port for name in wanted for port in ir.outputs if port.name == name), None)
    if answered is None:
        raise SourceError(
            f"{what} answers {', '.join(port.name for port in ir.outputs) or 'nothing'}; for {task} it must answer "
            f"{' or '.join(wanted)}.",
            f"Export it for {task}, or name the task that it was made for.",
        )
    width = answered.shape[-1] if answered.shape else None
    if task.endswith("-classification") and width is not None and width != label_count(config):
        raise SourceError(
            f"{what} answers {width} scores, and config.json names {label_count(config)} labels.",
            "Put the config.json of the model that it was made of beside it.",
        )


def _check_free(port: Port, what: str, free: int) -> None:
    if any(dim is not None for dim in port.shape[:free]):
        shape = ", ".join("?" if dim is None else str(dim) for dim in port.shape)
        raise SourceError(
            f"{what} takes {port.name} of the fixed shape [{shape}]: no other batch or length.",
            "Export it with dynamic shapes, which is optimum-intel's default.",
        )
