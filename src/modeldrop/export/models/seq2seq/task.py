"""Models that read a text and write another, for the process that builds: what config.json says.

Translators, summarizers and others: T5, BART, Marian.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import ENCODER_DECODER, TOKENS, WRITING_TEXTS, Family


class Seq2Seq(Family):
    """An encoder, and a decoder that is given what it has computed for the tokens before."""

    name = "seq2seq"
    measured = TOKENS
    texts = WRITING_TEXTS

    def roles(self, config: Mapping[str, Any], task: str) -> tuple[str, ...]:
        return ENCODER_DECODER

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        writes = architecture.endswith(("ForConditionalGeneration", "LMHeadModel", "MTModel"))
        if embedder or not writes or not config.get("is_encoder_decoder") or "vocab_size" not in config:
            return []
        # Whisper reads sound.
        return [] if "num_mel_bins" in config or "vision_config" in config else ["text2text-generation"]


FAMILY = Seq2Seq()
