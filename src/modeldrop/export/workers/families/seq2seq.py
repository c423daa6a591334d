"""Translators, summarizers and other models that read a text and write another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import transformers

from modeldrop.export.workers import companions
from modeldrop.export.workers.checkpoint import Checkpoint, load_config, load_model, load_tokenizer
from modeldrop.export.workers.families.encoder_decoder import EncoderDecoder
from modeldrop.export.workers.families.past import shortened
from modeldrop.export.workers.timing import TOKENS, speed_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from modeldrop.export.samples import Sample
    from modeldrop.export.workers.families.interface import Timed
    from modeldrop.inference.runs import Array, Chain

_READ = 128


class Seq2SeqModel(EncoderDecoder):
    """An encoder that reads a text, and a decoder."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._source = checkpoint.folder
        self._tokenizer = load_tokenizer(checkpoint, load_config(checkpoint))
        self._model = load_model(checkpoint, transformers.AutoModelForSeq2SeqLM)
        self.max_length = self._tokenizer.model_max_length

    def export(self, output: Path) -> None:
        self.export_as("text2text-generation-with-past", output)

    def save_companions(self, output: Path) -> None:
        companions.save_tokenizer(self._tokenizer, output)
        companions.copy(self._source, output, (*companions.ALWAYS, "generation_config.json"))

    def ask(self, samples: Sequence[Sample]) -> Iterator[Chain]:
        # Reading more than this makes the comparison slow, and shows nothing new.
        longest = min(_READ, self.max_length or _READ)
        for sample in samples:
            (text,) = sample.texts
            yield self.chain(text, self._inputs(text, longest), ((text,),))

    def golden(self, chains: Sequence[Chain], indices: Sequence[int]) -> list[Chain]:
        return shortened(chains)

    def timed(self, samples: Sequence[Sample]) -> list[Timed]:
        (text,), _ = speed_texts([sample.texts[0] for sample in samples])
        return self.timed_on(self._inputs(text, TOKENS))

    def _inputs(self, text: str, longest: int) -> dict[str, Array]:
        read = self._tokenizer([text], truncation=True, max_length=longest)
        return {name: np.array(read[name], np.int64) for name in ("input_ids", "attention_mask")}
