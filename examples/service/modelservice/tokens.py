"""Texts as a model takes them, by tokenizer.json alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from tokenizers import Tokenizer

from .graphs import Array

Text = str | tuple[str, str]
"""A text, or a pair of them that is judged together."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids and what goes with them, [texts, tokens] each; and how many of the texts had to be cut."""

    inputs: dict[str, Array]
    truncated: int


class Tokens:
    """A tokenizer.

    Args:
        folder: where tokenizer.json and config.json are.
        limit: how many tokens a text may have.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Padding and truncation that were saved with it are those of its training.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(limit)
        config = json.loads((folder / "config.json").read_bytes())
        self._padding = int(config.get("pad_token_id") or 0)

    def batch(self, texts: Sequence[Text]) -> Batch:
        """The texts as one batch, as long as its longest."""
        encodings = self._tokenizer.encode_batch(list(texts))
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        ids = np.full(shape, self._padding, np.int64)
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            ids[row, :length] = encoding.ids
            mask[row, :length] = encoding.attention_mask
            types[row, :length] = encoding.type_ids
        truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        return Batch({"input_ids": ids, "attention_mask": mask, "token_type_ids": types}, truncated)

    def decode(self, ids: Sequence[int]) -> str:
        """The text that tokens stand for, without the special ones."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()


_open: WeakValueDictionary[tuple[bytes, bytes, int], Tokens] = WeakValueDictionary()


def open_tokens(folder: Path, limit: int) -> Tokens:
    """A folder's tokenizer; where another version has the same one open, that.

    A new version mostly has its predecessor's, and while a large one is parsed every other thread stands still, half a
    second for 250,000 pieces.
    """
    key = (_digest(folder / "tokenizer.json"), _digest(folder / "config.json"), limit)
    found = _open.get(key)
    if found is None:
        found = _open[key] = Tokens(folder, limit)
    return found


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes()).digest()
