"""Refuse calibration data for int8-static that does not fit the model."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.errors import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAYS = "arrays"
_MAX_BYTES = 1 << 30
_MAX_EXAMPLES = 2000
_SOUNDS = ("input_values", "input_features")
_TOKENS = ("input_ids", "attention_mask", "token_type_ids")


def check_calibration(path: Path, config: Mapping[str, Any], kind: str) -> None:
    """Refuse what is not texts, nor arrays of the shape that the model takes.

    Args:
        path: the recipe's file: ``.npz``, or texts, one per line.
        config: the model's config.json.
        kind: of the model's inputs: ``text`` for token ids, ``image``, ``audio``, or ``arrays`` for what the graph says
            itself.

    Raises:
        RecipeError: names the array, its shape, and what is wanted.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecipeError(f"calibration: {path} has more than {_MAX_BYTES} bytes.", "Name a sample.")
        if path.suffix != ".npz":
            _check_texts(path, takes_texts=kind == "text")
            return
        arrays = _load(path)
    except OSError as error:
        raise RecipeError(f"calibration: {path} cannot be read: {error.strerror or error}.") from None
    if kind == "text":
        _check_tokens(path, arrays, config)
    elif kind == "audio":
        _check_sounds(path, arrays)
    elif kind != ARRAYS:
        _check_pictures(path, arrays, config)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RecipeError(f"calibration: {path} is not numpy's .npz with arrays of numbers: {error}.") from None
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or not 1 <= max(counts) <= _MAX_EXAMPLES:
        raise RecipeError(
            f"calibration: {path} has {_shapes(arrays)}.",
            f"Every array needs the same first dimension: the examples, 1 to {_MAX_EXAMPLES}.",
        )
    return arrays


def _check_texts(path: Path, *, takes_texts: bool) -> None:
    if not takes_texts:
        raise RecipeError(
            f"calibration: {path} is not numpy's .npz, and this model does not read texts.",
            "Save its inputs, as the model's processor makes them: numpy.savez('calibration.npz', pixel_values=…).",
        )
    try:
        count = sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())
    except UnicodeDecodeError:
        raise RecipeError(f"calibration: {path} is neither UTF-8 text nor numpy's .npz.") from None
    if not 1 <= count <= _MAX_EXAMPLES:
        raise RecipeError(f"calibration: {path} has {count} texts; between 1 and {_MAX_EXAMPLES} are used.")


def _check_tokens(path: Path, arrays: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> None:
    unknown = sorted(set(arrays) - set(_TOKENS))
    if unknown or "input_ids" not in arrays or "attention_mask" not in arrays:
        raise RecipeError(
            f"calibration: {path} has {_shapes(arrays)}; this model takes {', '.join(_TOKENS)} where it has types.",
            "Save what the tokenizer gives; or name a file of texts.",
        )
    shape = arrays["input_ids"].shape
    longest = config.get("max_position_embeddings")
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape != shape or array.dtype.name != "int64":
            raise RecipeError(
                f"calibration: {name} in {path} is {array.dtype.name} {array.shape}.",
                "Token ids, masks and types are int64 of one shape: (examples, tokens).",
            )
    if isinstance(longest, int) and shape[1] > longest:
        raise RecipeError(
            f"calibration: input_ids in {path} has {shape[1]} tokens; this model has {longest} positions."
        )
    size, ids = config.get("vocab_size"), arrays["input_ids"]
    if isinstance(size, int) and ids.size and not 0 <= ids.min() <= ids.max() < size:
        raise RecipeError(
            f"calibration: input_ids in {path} reach from {ids.min()} to {ids.max()}; this model's vocabulary has "
            f"{size} tokens."
        )


def _check_pictures(path: Path, arrays: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> None:
    size = config.get("image_size")
    height, width = (size, size) if isinstance(size, int) else tuple(size or (None, None))
    wanted = (config.get("num_channels", 3), height, width)
    array = arrays.get("pixel_values")
    fits = (
        array is not None
        and len(arrays) == 1
        and array.ndim == 4
        and array.dtype.name == "float32"
        and all(want in {None, have} for want, have in zip(wanted, array.shape[1:], strict=True))
    )
    if not fits:
        shape = ", ".join("any" if part is None else str(part) for part in wanted)
        raise RecipeError(
            f"calibration: {path} has {_shapes(arrays)}.",
            f"This model takes pixel_values: float32 of the shape (examples, {shape}).",
        )


def _check_sounds(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    (name, array), *others = arrays.items()
    if others or name not in _SOUNDS or array.dtype.name != "float32" or array.ndim not in {2, 3}:
        raise RecipeError(
            f"calibration: {path} has {_shapes(arrays)}.",
            f"This model takes {' or '.join(_SOUNDS)}, as its feature extractor makes them: float32, of equal lengths.",
        )


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> str:
    told = [f"{name[:40]} {array.dtype.name} {array.shape}" for name, array in list(arrays.items())[:8]]
    return ", ".join(told) or "no arrays"
