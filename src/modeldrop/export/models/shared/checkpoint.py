"""Loading a checkpoint folder: config and model, refusing what would answer differently than it was trained to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open

from modeldrop.errors import SourceError
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared import onnx_as_model, openvino_as_model
from modeldrop.util.text import first_line

_OF_SAVING = frozenset({"dtype", "torch_dtype", "transformers_version", "_name_or_path", "use_cache", "model_type"})
"""Entries of config.json that tell how a checkpoint was saved; it is loaded in fp32 and compared without a KV cache."""


def load_config(checkpoint: Checkpoint) -> Any:
    """The configuration, without the weights: what can be refused for it is refused before they are read.

    Ready graphs may be of a kind that transformers does not know: of them it is what stands in config.json.

    Raises:
        SourceError: transformers does not know it.
    """
    ready = has_graphs(checkpoint)
    try:
        return transformers.AutoConfig.from_pretrained(
            checkpoint.folder,
            trust_remote_code=checkpoint.trust_remote_code and not ready,
            local_files_only=True,
        )
    except Exception as error:
        if ready:
            return transformers.PretrainedConfig.from_dict(dict(checkpoint.read("config.json")))
        raise _unloadable(error) from error


def has_graphs(checkpoint: Checkpoint) -> bool:
    """Whether it holds ready graphs instead of weights."""
    return onnx_as_model.has_onnx(checkpoint.folder) or openvino_as_model.has_graph(checkpoint.folder)


def _unloadable(error: Exception) -> SourceError:
    return SourceError(f"transformers cannot load the checkpoint: {first_line(error)}")


def load_original(checkpoint: Checkpoint, kind: Any, *, may_lack: str = "") -> Any:
    """The model, ready to answer: of weights in fp32, or of ready graphs.

    Ready graphs answer calls as a model does: see ``onnx_as_model`` and ``openvino_as_model``. A model of weights gets
    two attributes: ``opset``, what it is to be exported with, and ``made_up``, the names of weights that it lacks.

    Args:
        checkpoint: where it is.
        kind: the transformers class that loads it, such as ``AutoModel``.
        may_lack: a part of the names of weights that are not used and so may be made up.

    Raises:
        SourceError: it does not load, lacks weights, or holds NaN or infinity.
    """
    if onnx_as_model.has_onnx(checkpoint.folder):
        return onnx_as_model.load_onnx(checkpoint.folder, kind, load_config(checkpoint))
    if openvino_as_model.has_graph(checkpoint.folder):
        return openvino_as_model.OpenVinoModel(checkpoint.folder, load_config(checkpoint))
    try:
        model, info = kind.from_pretrained(
            checkpoint.folder,
            output_loading_info=True,
            use_safetensors=None if checkpoint.allow_pickle else True,
            trust_remote_code=checkpoint.trust_remote_code,
            local_files_only=True,
            dtype=torch.float32,
        )
    except Exception as error:
        raise _unloadable(error) from error
    _check_config(model.config, checkpoint)
    made_up = [name for name in info["missing_keys"] if may_lack and may_lack in f".{name}"]
    missing = [name for name in info["missing_keys"] if name not in made_up]
    if missing:
        raise SourceError(
            f"The checkpoint lacks {len(missing)} weights that {type(model).__name__} needs, "
            f"such as {min(missing)}: they would be made up at random.",
            "Use a checkpoint that was trained for this task, or name another task.",
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SourceError(f"The weight {name} holds NaN or infinity.", "Check the training run that saved it.")
    _check_weights(model, checkpoint, info["unexpected_keys"])
    model.opset, model.made_up = checkpoint.opset, made_up
    return model.eval()


def _check_config(config: Any, checkpoint: Checkpoint) -> None:
    """Refuse a config.json from which transformers reads other values than it holds.

    Raises:
        SourceError: names what is read as something else.
    """
    for name, value in checkpoint.read("config.json").items():
        if name in _OF_SAVING or not isinstance(value, int | float | str):
            continue
        try:
            read = getattr(config, name)
        except (AttributeError, RuntimeError):  # RuntimeError: where layers differ, there is no one value to read
            continue
        both_ways = name == "sliding_window" and getattr(config, "use_bidirectional_attention", False)
        if both_ways and isinstance(value, int) and read == value // 2 + 1:
            continue  # Gemma3TextConfig: as wide, half of it to each side
        if read != value:
            raise SourceError(
                f"config.json says {name} = {value!r}, and transformers {transformers.__version__} reads "
                f"{read!r}: it would answer otherwise than the model that was trained.",
                "Save the checkpoint with that release, or correct its config.json.",
            )


def _check_weights(model: Any, checkpoint: Checkpoint, unused: Sequence[str]) -> None:
    """Compare what was loaded with the checkpoint's own tensors: the reference comes from the library that exports.

    Raises:
        SourceError: a weight was loaded as something else, or weights of the body are not used.
    """
    files = sorted(checkpoint.folder.glob("*.safetensors"))
    names = {name for path in files for name in _names(path)}
    prefix = f"{model.base_model_prefix}." if model.base_model_prefix else ""
    body = {name.removeprefix(prefix) for name in names if name.startswith(prefix)} or names
    # A head of another task may stay behind, and so may what is made up if it is missing; layers of the body may not.
    lost = [name for name in unused if name.removeprefix(prefix) in body and ".pooler." not in f".{name}"]
    if lost:
        raise SourceError(
            f"{len(lost)} weights of the checkpoint, such as {min(lost)}, have no place in {type(model).__name__} as "
            "config.json describes it: the model would answer without them.",
            "Compare config.json with the model that was trained: its number of layers, its kind.",
        )
    loaded = model.state_dict()
    for path in files:
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  it is no dictionary
                mine = next(
                    (loaded[one] for one in (name, prefix + name, name.removeprefix(prefix)) if one in loaded), None
                )
                if mine is not None and not torch.equal(mine, tensors.get_tensor(name).to(mine.dtype)):
                    raise SourceError(
                        f"The weight {name} was loaded as something else than {path.name} holds.",
                        "Report this, with the model's name.",
                    )


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as tensors:
        return list(tensors.keys())


def load_preprocessor(checkpoint: Checkpoint, kind: Any, what: str, **options: Any) -> Any:
    """What makes a model's tensors of pictures or sounds.

    Args:
        checkpoint: where it is.
        kind: the transformers class that loads it, such as ``AutoImageProcessor``.
        what: its name, for messages.
        options: of the class.

    Raises:
        SourceError: it is missing or unknown.
    """
    try:
        return kind.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=checkpoint.trust_remote_code, **options
        )
    except Exception as error:
        raise SourceError(
            f"transformers cannot load the {what}: {first_line(error)}",
            "Put preprocessor_config.json beside the weights.",
        ) from error
