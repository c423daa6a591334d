"""Translators, summarizers and other models that read a text and write another: T5, BART, Marian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.export.models.family import ENCODER_DECODER, TOKENS, Family, writing_samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.export.inputs import Sample


class Seq2Seq(Family):
    """An encoder, and a decoder that is given what it has computed for the tokens before."""

    name = "seq2seq"
    graphs = ENCODER_DECODER

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        writes = architecture.endswith(("ForConditionalGeneration", "LMHeadModel", "MTModel"))
        if embedder or not writes or not config.get("is_encoder_decoder") or "vocab_size" not in config:
            return []
        # Whisper reads sound.
        return [] if "num_mel_bins" in config or "vision_config" in config else ["text2text-generation"]

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        return TOKENS

    def built_in(self, config: Mapping[str, Any], task: str) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
        return writing_samples(), ()


FAMILY = Seq2Seq()
