"""What answers a task, whatever it is made of: a model, a smaller one, or rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from .graphs import Graph
from .tokens import Batch, Text, Tokens

T = TypeVar("T")


class EngineError(Exception):
    """A snapshot cannot serve the task; the message says why."""


class UnknownLabelError(Exception):
    """A label was asked for that the model was not trained with."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a text was classified as: a label, or None where none fits; its probability; what the model wrote."""

    label: str | None
    score: float
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Vectors:
    """An embedding per text, each of length 1; and how many texts were cut."""

    rows: list[list[float]]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """How well each text answers the query, from 0 to 1; and how many texts were cut."""

    values: list[float]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Labels:
    """A label per text; and how many texts were cut."""

    rows: list[Label]
    truncated: int = 0


class Embeds(Protocol):
    """Answers ``embed``."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Texts as vectors."""


class Reranks(Protocol):
    """Answers ``rerank``."""

    def rerank(self, query: str, texts: Sequence[str]) -> Scores:
        """Score texts by a query."""


class Classifies(Protocol):
    """Answers ``classify``."""

    def classify(self, texts: Sequence[str], labels: Sequence[str]) -> Labels:
        """Choose among ``labels``; where there are none, among those that the engine knows.

        Raises:
            UnknownLabelError: the engine cannot choose one of them.
        """


@dataclass(frozen=True, slots=True)
class Opened:
    """A snapshot that is open: its graphs by role, its tokenizer and what its manifest says that engines need.

    Attributes:
        folder: the snapshot's.
        graphs: by role, such as ``model`` or ``encoder_model``.
        tokens: its tokenizer.
        known_labels: the labels of a classifier, in the order of its scores.
        default_labels: what a model that can choose from any labels chooses from where nobody says it.
        batch: how many texts go through it at once.
    """

    folder: Path
    graphs: dict[str, Graph]
    tokens: Tokens
    known_labels: tuple[str, ...]
    default_labels: tuple[str, ...]
    batch: int

    def in_batches(self, texts: Sequence[Text], run: Callable[[Batch], Sequence[T]]) -> tuple[list[T], int]:
        """Run texts of like length together, so that little is spent on padding.

        Returns:
            One result per text, in the order of the texts; and how many of them were cut.
        """
        order = sorted(range(len(texts)), key=lambda index: _length(texts[index]))
        results: dict[int, T] = {}
        truncated = 0
        for start in range(0, len(order), self.batch):
            chosen = order[start : start + self.batch]
            batch = self.tokens.batch([texts[index] for index in chosen])
            truncated += batch.truncated
            results.update(zip(chosen, run(batch), strict=True))
        return [results[index] for index in range(len(texts))], truncated


def _length(text: Text) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
