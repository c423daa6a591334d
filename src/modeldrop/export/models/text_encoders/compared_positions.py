"""Which part of a graph's outputs counts, where not all of it does: the passage an answer is in, and hidden words."""

from __future__ import annotations

from typing import Any

from modeldrop.errors import RecipeError, SourceError
from modeldrop.export.inputs import Sample

TOKENWISE = ("question-answering", "fill-mask")
"""The tasks whose answers are of a part of the tokens."""
_WORD = 12
_PASSAGE = 1


def passage(inputs: Any) -> tuple[int, ...]:
    """The positions of the passage's tokens, behind those of its question: where transformers looks for answers.

    Args:
        inputs: what a tokenizer of the fast kind has made of both.
    """
    return tuple(index for index, part in enumerate(inputs.encodings[0].sequence_ids) if part == _PASSAGE)


class MaskedTexts:
    """Hides words of texts.

    Args:
        tokenizer: the model's.

    Raises:
        SourceError: it has no token that stands for a hidden word.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.mask_token_id is None:
            raise SourceError(
                "The tokenizer has no mask token, which stands for the word that fill-mask finds.",
                "Put the tokenizer that the model was trained with beside the weights, or name another task.",
            )
        self._token, self._id = tokenizer.mask_token, tokenizer.mask_token_id

    def masked(self, text: str) -> str:
        """The text itself where it hides words already; else with a word hidden: the middle one, the 12th at most."""
        if self._token in text:
            return text
        words = text.split()
        if len(words) < 2:
            return f"{text} {self._token}"
        hidden = min(len(words) // 2, _WORD - 1)
        return " ".join([*words[:hidden], self._token, *words[hidden + 1 :]])

    def rows(self, inputs: Any) -> tuple[int, ...]:
        """The positions of the hidden words that a tokenizer has left in a text."""
        return tuple((inputs["input_ids"][0] == self._id).nonzero()[:, 0].tolist())


def check_room(sample: Sample) -> None:
    """Refuse an input of the recipe of which nothing is left that could be asked; a built-in one is passed over.

    Raises:
        RecipeError: names file and line.
    """
    if sample.where:
        raise RecipeError(
            f"inputs: {sample.where} is cut before the hidden word, or the passage, begins.",
            "Shorten it, or raise max_length in the recipe.",
        )
