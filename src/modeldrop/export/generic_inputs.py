"""The recipe's file of inputs of a generic model, as far as it can be judged without its model and without libraries.

What is in it is read where the model's signature is known, by ``models/generic/inputs.py``: before anything slow.
"""

from __future__ import annotations

from pathlib import Path

from modeldrop.errors import RecipeError
from modeldrop.util.files import sha256_file

FORMS = (".npz", ".npy", ".jsonl", ".csv", ".parquet")
"""The endings of files that hold inputs by name."""
_MAX_BYTES = 1 << 30


def check_file(path: Path) -> str:
    """The SHA-256 of the file.

    Raises:
        RecipeError: it cannot be read, is too large, or of another kind.
    """
    if path.suffix.lower() not in FORMS:
        raise RecipeError(
            f"inputs: {path} is none of {', '.join(FORMS)}, which a generic model's inputs come in.",
            "Save them by the names of the graph's inputs: numpy.savez('inputs.npz', x=…), or a table's columns.",
        )
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecipeError(f"inputs: {path} has more than {_MAX_BYTES} bytes.", "Name a sample.")
        return sha256_file(path)
    except OSError as error:
        raise RecipeError(f"inputs: {path} cannot be read: {error.strerror or error}.") from None
