"""Models that read a text and write another, for the worker: how they are loaded, exported and asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import transformers

from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared.checkpoint import load_config, load_original
from modeldrop.export.models.shared.encoder_decoder import EncoderDecoder
from modeldrop.export.models.shared.kv_cache import golden_runs
from modeldrop.export.models.shared.loaded_model import TimedRun
from modeldrop.export.models.shared.timing import TOKENS, speed_texts
from modeldrop.export.models.shared.tokenizer import load_tokenizer
from modeldrop.inference.runs import Array, ModelRun

_READ = 128


class Seq2SeqModel(EncoderDecoder):
    """An encoder that reads a text, and a decoder."""

    source_files = ("generation_config.json",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._tokenizer = load_tokenizer(checkpoint, load_config(checkpoint))
        self._model = load_original(checkpoint, transformers.AutoModelForSeq2SeqLM)
        self.max_length = self._tokenizer.model_max_length

    def export(self, output: Path) -> None:
        self.export_as("text2text-generation-with-past", output)

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        # Reading more than this makes the comparison slow, and shows nothing new.
        longest = min(_READ, self.max_length or _READ)
        for sample in samples:
            (text,) = sample.texts
            yield self.make_run(text, self._inputs(text, longest), ((text,),))

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        return golden_runs(runs)

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        (text,), _ = speed_texts([sample.texts[0] for sample in samples])
        return self.timed_on(self._inputs(text, TOKENS))

    def _inputs(self, text: str, longest: int) -> dict[str, Array]:
        read = self._tokenizer([text], truncation=True, max_length=longest)
        return {name: np.array(read[name], np.int64) for name in ("input_ids", "attention_mask")}


MODEL = Seq2SeqModel
