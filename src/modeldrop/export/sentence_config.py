"""What sentence-transformers reads of config_sentence_transformers.json: prompts, similarity, a cut of vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modeldrop.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

SENTENCE_CONFIG = "config_sentence_transformers.json"


@dataclass(frozen=True, slots=True)
class SentenceConfig:
    """How a sentence embedder is to be asked.

    Attributes:
        prompts: texts that are put before what is embedded, by name.
        default_prompt: the name of the one that is taken where none is named; "" for none.
        similarity: the function that its vectors are compared with, such as ``cosine``; "" where it says none.
        truncate_dim: how many numbers of each vector count, None for all.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    similarity: str = ""
    truncate_dim: int | None = None

    @property
    def prompt(self) -> str:
        """What is put before every text where nobody names a prompt."""
        return self.prompts.get(self.default_prompt, "")


def read_sentence_config(plain: Mapping[str, Any]) -> SentenceConfig:
    """What a source says.

    Args:
        plain: its parsed ``SENTENCE_CONFIG``; {} where it has none.

    Raises:
        SourceError: the default prompt is none of its prompts, or a value is of another kind.
    """
    prompts, default = plain.get("prompts") or {}, plain.get("default_prompt_name") or ""
    similarity, cut = plain.get("similarity_fn_name") or "", plain.get("truncate_dim")
    for name, value, kind in (
        ("prompts", prompts, dict),
        ("default_prompt_name", default, str),
        ("similarity_fn_name", similarity, str),
        ("truncate_dim", cut, int | None),
    ):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SourceError(
                f"{SENTENCE_CONFIG} of the source has no valid {name}: {value!r:.80}.", "Correct it, or remove it."
            )
    if not all(isinstance(text, str) for text in prompts.values()):
        raise SourceError(f"{SENTENCE_CONFIG} of the source has a prompt that is no text.", "Correct it, or remove it.")
    if default and default not in prompts:
        raise SourceError(
            f"{SENTENCE_CONFIG} of the source has the default prompt {default!r}, which is none of its prompts: "
            f"{', '.join(prompts) or 'there are none'}.",
            "Correct default_prompt_name: sentence-transformers does not load this model either.",
        )
    if cut is not None and cut < 1:
        raise SourceError(f"{SENTENCE_CONFIG} of the source cuts vectors to {cut} numbers.", "Correct truncate_dim.")
    # sentence-transformers adds two empty prompts to those of every model.
    return SentenceConfig({name: text for name, text in prompts.items() if text}, default, similarity, cut)
