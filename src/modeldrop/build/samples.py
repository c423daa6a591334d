"""What the variants are compared on: texts, or pairs of them."""

from __future__ import annotations

from typing import TypeAlias

Sample: TypeAlias = tuple[str, ...]
"""One text; or two, for rerankers: a question and a passage."""


def sample_of(line: str) -> Sample:
    """A line of a file of texts: a tab parts the two of a pair."""
    first, _, second = (part.strip() for part in line.partition("\t"))
    return (first, second) if first and second else (line.strip(),)


def shown(sample: Sample) -> str:
    """What people are shown of it."""
    return " \u2192 ".join(sample)
