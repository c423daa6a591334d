"""Answers without a model: poor, but answers. Every response says when it has one of these. Replace them by yours."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence

from .engines import Label, Labels, Scores, Vectors

_WORD = re.compile(r"\w+")
_WIDTH = 256
_HINTS = {
    "positive": {"good", "great", "excellent", "love", "happy", "thanks", "perfect", "best"},
    "negative": {"bad", "poor", "terrible", "hate", "angry", "broken", "worst", "refund"},
}


class RuleEmbedder:
    """Words counted into 256 places by their hashes: texts are near each other if they share words."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See ``Embeds``."""
        return Vectors([_hashed(text) for text in texts])


class RuleReranker:
    """The share of the query's words that a text has; rare ones count for more."""

    def rerank(self, query: str, texts: Sequence[str]) -> Scores:
        """See ``Reranks``."""
        found = [set(_words(text)) for text in texts]
        often = Counter(word for words in found for word in words)
        weights = {word: math.log(1 + len(texts) / (1 + often[word])) for word in set(_words(query))}
        whole = sum(weights.values()) or 1.0
        return Scores([sum(weight for word, weight in weights.items() if word in words) / whole for words in found])


class RuleClassifier:
    """The label whose words a text has most of; none where it has none."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)

    def classify(self, texts: Sequence[str], labels: Sequence[str]) -> Labels:
        """See ``Classifies``."""
        hints = {label: {*_words(label), *_HINTS.get(label, ())} for label in labels or self._labels}
        return Labels([self._label(_words(text), hints) for text in texts])

    def _label(self, words: Sequence[str], hints: dict[str, set[str]]) -> Label:
        counts = {label: sum(word in known for word in words) for label, known in hints.items()}
        best = max(counts, key=lambda label: counts[label])
        return Label(best, counts[best] / sum(counts.values())) if counts[best] else Label(None, 0.0)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _hashed(text: str) -> list[float]:
    row = [0.0] * _WIDTH
    for word, count in Counter(_words(text)).items():
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        row[digest[0]] += count if digest[1] & 1 else -count
    length = math.hypot(*row) or 1.0
    return [value / length for value in row]
