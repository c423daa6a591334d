"""Classifying: with a model that was trained for its labels, or one that writes (flan-t5), for any labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .engines import EngineError, Label, Labels, Opened, UnknownLabelError
from .generating import Writer
from .tokens import Batch

_MOST_TOKENS = 16


class Classifier:
    """A classifier: it knows its labels.

    Raises:
        EngineError: it has only one, as rerankers do.
    """

    def __init__(self, opened: Opened) -> None:
        if len(opened.known_labels) < 2:
            raise EngineError("a classifier has at least two labels; this model has one, as rerankers do")
        self._opened = opened
        self._graph = opened.graphs["model"]
        self._labels = opened.known_labels

    def classify(self, texts: Sequence[str], labels: Sequence[str]) -> Labels:
        """See ``Classifies``: the labels given are those that may be chosen."""
        unknown = sorted(set(labels) - set(self._labels))
        if unknown:
            raise UnknownLabelError(f"This model knows {', '.join(self._labels)}; not {', '.join(unknown)}.")
        allowed = [index for index, label in enumerate(self._labels) if label in (labels or self._labels)]

        def run(batch: Batch) -> list[Label]:
            logits = self._graph.run(batch.inputs)["logits"][:, allowed].astype(np.float64)
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            return [Label(self._labels[allowed[int(row.argmax())]], float(row.max())) for row in shares]

        rows, truncated = self._opened.in_batches(texts, run)
        return Labels(rows, truncated)


class Labeller:
    """An encoder and decoder that is asked for a label in words. It may answer something else: then there is none."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._writer = Writer(opened)

    def classify(self, texts: Sequence[str], labels: Sequence[str]) -> Labels:
        """See ``Classifies``."""
        names = list(labels or self._opened.default_labels)

        def run(batch: Batch) -> list[Label]:
            return [
                Label(match(written.text, names), written.probability, written.text)
                for written in self._writer.write(batch, _MOST_TOKENS)
            ]

        rows, truncated = self._opened.in_batches([prompt(text, names) for text in texts], run)
        return Labels(rows, truncated)


def prompt(text: str, labels: Sequence[str]) -> str:
    """What the model is asked. The question comes first: a text that is too long is cut at its end."""
    return f"Which of these fits the text best: {', '.join(labels)}?\nText: {text}"


def match(written: str, labels: Sequence[str]) -> str | None:
    """The label that was written, whatever its case; None if none was."""
    said = written.casefold().strip(" .!\"'")
    return next((label for label in labels if label.casefold() == said), None)
