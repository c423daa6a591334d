"""Reranking with a cross-encoder: it reads the query and a text together, and gives one score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .engines import EngineError, Opened, Scores
from .tokens import Batch


class Reranker:
    """A classifier with a single label.

    Raises:
        EngineError: it has several.
    """

    def __init__(self, opened: Opened) -> None:
        if len(opened.known_labels) > 1:
            raise EngineError(f"a reranker has one label; this model has {len(opened.known_labels)}")
        self._opened = opened
        self._graph = opened.graphs["model"]

    def rerank(self, query: str, texts: Sequence[str]) -> Scores:
        """See ``Reranks``."""
        values, truncated = self._opened.in_batches([(query, text) for text in texts], self._run)
        return Scores(values, truncated)

    def _run(self, batch: Batch) -> list[float]:
        logits = self._graph.run(batch.inputs)["logits"][:, 0].astype(np.float64)
        values: list[float] = (0.5 * (1 + np.tanh(0.5 * logits))).tolist()  # the sigmoid, without overflow
        return values
