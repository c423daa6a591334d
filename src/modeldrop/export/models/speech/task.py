"""Models that write down what is said: Whisper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import ENCODER_DECODER, TOKENS, Family


class Speech(Family):
    """An encoder of sound, and a decoder that is given what it has computed for the tokens before."""

    name = "speech"
    graphs = ENCODER_DECODER
    measured = TOKENS
    needed = (*Family.needed, "preprocessor_config.json")
    input_kind = "audio"
    most_texts = 0

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        hears = "num_mel_bins" in config and bool(config.get("is_encoder_decoder"))
        return ["automatic-speech-recognition"] if hears and architecture.endswith("ForConditionalGeneration") else []


FAMILY = Speech()
