"""What the nightly model is judged by: the share of the held-out rows that it is right about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def accuracy(
    _: Sequence[Mapping[str, Any]], variant: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]]
) -> float:
    right = [answer["label"][0] == int(row["label"]) for answer, row in zip(variant, samples, strict=True)]
    return sum(right) / len(right)
