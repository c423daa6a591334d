"""Models of other libraries, told from the names of their files: each is refused by its name, with a way to a graph."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_AS_SOURCE = "give the .onnx file as the source"
_MADE_OF = "Give the checkpoint that it was made of: int8 and int4 are made here, and compared with it."


@dataclass(frozen=True, slots=True)
class ForeignKind:
    """A kind of model that this release does not build.

    Attributes:
        files: the pattern of the file that tells it.
        what: what it is, with its article.
        hint: what works instead.
    """

    files: str
    what: str
    hint: str


_KINDS = (
    ForeignKind(
        r"gliner_config\.json",
        "a GLiNER model, whose inputs gliner itself makes of texts and labels",
        "Export it by gliner's GLiNER.from_pretrained(FOLDER).export_to_onnx(NEW), and give NEW as the source of a "
        "generic model, with inputs that gliner has made.",
    ),
    ForeignKind(
        r"model_index\.json|(?:.*/)?diffusion_pytorch_model[^/]*",
        "a pipeline of diffusers or a part of one",
        f"Export its parts (optimum-cli export onnx --model FOLDER NEW); of each, {_AS_SOURCE}.",
    ),
    ForeignKind(r".*\.(?:gguf|ggml)", "GGUF weights, for llama.cpp", _MADE_OF),
    ForeignKind(r".*\.npz|weights\.\d+\.safetensors", "weights for MLX", _MADE_OF),
    ForeignKind(
        r"tf_model[^/]*\.h5",
        "weights of TensorFlow",
        "Save them by transformers 4: the model's class .from_pretrained(FOLDER, from_tf=True).save_pretrained(NEW).",
    ),
    ForeignKind(
        r"flax_model[^/]*\.msgpack",
        "weights of Flax",
        "Save them by transformers 4: the model's class .from_pretrained(FOLDER, from_flax=True).save_pretrained(NEW).",
    ),
    ForeignKind(
        r".*\.(?:keras|h5|hdf5)",
        "a Keras model",
        f"Export it (keras.saving.load_model(FILE).export('model.onnx', format='onnx')), and {_AS_SOURCE}.",
    ),
    ForeignKind(
        r"saved_model\.pb",
        "a SavedModel of TensorFlow",
        f"Convert it (python -m tf2onnx.convert --saved-model FOLDER --output model.onnx), and {_AS_SOURCE}.",
    ),
    ForeignKind(
        r".*\.(?:tflite|task)",
        "a model for LiteRT (TensorFlow Lite)",
        f"Convert it (python -m tf2onnx.convert --tflite FILE --output model.onnx), and {_AS_SOURCE}.",
    ),
    ForeignKind(
        r"open_clip_(?:config\.json|pytorch_model\.bin|model\.safetensors)",
        "an OpenCLIP model",
        "Give it in transformers' form, or a function that makes it (python:FILE.py:FUNCTION).",
    ),
    ForeignKind(
        r"config\.cfg",
        "a pipeline of spaCy",
        f"Export the transformer in it by its own library, and {_AS_SOURCE}.",
    ),
    ForeignKind(
        r".*\.nemo",
        "a NeMo model",
        f"Export it (its class .restore_from(FILE).export('model.onnx')), and {_AS_SOURCE}.",
    ),
    ForeignKind(
        r".*\.(?:pdmodel|pdiparams|pdparams)", "a PaddlePaddle model", f"Convert it by paddle2onnx, and {_AS_SOURCE}."
    ),
    ForeignKind(r".*\.mlmodel", "a model for Core ML", f"Export what it was made of, and {_AS_SOURCE}."),
    ForeignKind(
        r"params\.json|consolidated[^/]*",
        "a model in its makers' own form",
        "Give it in transformers' form: the folder or repository that has model.safetensors.",
    ),
    ForeignKind(
        r"(?!optimizer|scheduler|scaler|rng_state|training_args|random_states)[^/]*\.(?:pt|pth|ckpt|torchscript|pt2)",
        "what torch has saved, without the code that makes it a model",
        "Give a function that makes the module (python:FILE.py:FUNCTION), and name the weights in the recipe: "
        "state_dict.",
    ),
)


def foreign_kind(names: Iterable[str]) -> tuple[ForeignKind, str] | None:
    """The kind that files tell, and which file; None where they tell none.

    Args:
        names: every file of a source that has no weights which are loaded.
    """
    there = sorted(names)
    for kind in _KINDS:
        found = next((name for name in there if re.fullmatch(kind.files, name, re.IGNORECASE)), None)
        if found is not None:
            return kind, found
    return None
