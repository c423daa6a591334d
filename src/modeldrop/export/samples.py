"""What the variants are compared on: texts, pairs of them, pictures, pictures with texts, or recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One input.

    Attributes:
        texts: one text; or two, for rerankers: a question and a passage; or, beside a picture, what may fit it.
        image: path of a PNG or JPEG file, or "".
        audio: path of a WAV file, or "".
        where: the line or file that it comes from, for messages; "" for a built-in one.
        fields: the line as an own metric gets it.
    """

    texts: tuple[str, ...] = ()
    image: str = ""
    audio: str = ""
    where: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``text``, ``image`` or ``audio``."""
        return "image" if self.image else "audio" if self.audio else "text"

    @property
    def shown(self) -> str:
        """What people are shown of it."""
        return Path(self.image or self.audio).name or " \u2192 ".join(self.texts)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a worker."""
        return asdict(self)


def built_in(texts: tuple[str, ...]) -> Sample:
    """A built-in text, or a pair of them."""
    return Sample(texts, fields=dict(zip(("text", "text_pair"), texts, strict=False)))


def sample_from(plain: Mapping[str, Any]) -> Sample:
    """What ``Sample.to_json`` gave."""
    return Sample(**{**plain, "texts": tuple(plain["texts"])})
