"""Refuse checkpoints whose config.json says that no exporter reads their weights, before these are downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.errors import SourceError, TaskError
from modeldrop.export.sentence_modules import is_static

_FUNCTION = "python:FILE.py:FUNCTION"
_MADE_OF = (
    "Give the checkpoint that it was made of, or save it dequantized by its library: int8 and int4 are made here, and "
    "compared with it."
)


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse quantized weights, and what is no config of transformers.

    Args:
        config: the checkpoint's config.json.

    Raises:
        SourceError: its weights are quantized; names by what.
        TaskError: it is of another library, or does not say of what kind the model is.
    """
    method = _quantized_by(config)
    if method:
        raise SourceError(
            f"The weights of this checkpoint are quantized by {method}, and exporters read floating point alone.",
            _MADE_OF,
        )
    if "_diffusers_version" in config:
        raise TaskError(
            f"config.json is of a part of a pipeline of diffusers ({config.get('_class_name')}).",
            "Export it (optimum-cli export onnx --model FOLDER NEW), and give the .onnx file as the source.",
        )
    if isinstance(config.get("architecture"), str) and "architectures" not in config:
        raise TaskError(
            f"config.json is timm's, of {config['architecture']}, and no exporter of this release reads it.",
            f"Give a function that makes it by timm.create_model ({_FUNCTION}); or export it with a program that knows "
            "it, and give the .onnx file as the source.",
        )
    if config.get("architectures") and not config.get("model_type") and not is_static(config):
        raise TaskError(
            "config.json names no model_type, so no exporter can tell how to load this checkpoint.",
            'Add "model_type": "bert" (as transformers calls its kind) to its config.json.',
        )


def _quantized_by(config: Mapping[str, Any]) -> str:
    """What has quantized the weights; "" where nothing has."""
    for part in (config, *(config.get(name) for name in ("text_config", "vision_config"))):
        if not isinstance(part, Mapping):
            continue
        settings = part.get("quantization_config") or part.get("compression_config")
        if isinstance(settings, Mapping):
            return str(settings.get("quant_method") or "a method that config.json does not name")
        if isinstance(part.get("quantization"), Mapping) and "bits" in part["quantization"]:
            return "MLX"
    return ""
