"""Embedding with a model: texts become vectors of length 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .engines import Opened, Vectors
from .graphs import Array
from .tokens import Batch


class Embedder:
    """A graph that answers ``sentence_embedding``, or ``last_hidden_state`` that is averaged here."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._graph = opened.graphs["model"]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See ``Embeds``."""
        rows, truncated = self._opened.in_batches(texts, self._run)
        return Vectors(rows, truncated)

    def _run(self, batch: Batch) -> list[list[float]]:
        outputs = self._graph.run(batch.inputs)
        vectors = outputs.get("sentence_embedding")
        if vectors is None:
            vectors = _mean(outputs["last_hidden_state"], batch.inputs["attention_mask"])
        rows: list[list[float]] = _unit(vectors).tolist()
        return rows


def _mean(hidden: Array, mask: Array) -> Array:
    weights = mask[..., None].astype(np.float32)
    mean: Array = (hidden * weights).sum(1) / weights.sum(1)
    return mean


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = vectors / np.maximum(length, 1e-12)
    return unit
