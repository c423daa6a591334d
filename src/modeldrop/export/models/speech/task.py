"""Models of sound for the process that builds: what config.json says.

Speech recognition (Whisper, wav2vec2) and classifiers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import ENCODER_DECODER, FRAMES, TOKENS, Family, class_metrics, is_ctc
from modeldrop.format.manifest import MODEL

_SPEECH, _SOUNDS = "automatic-speech-recognition", "audio-classification"
_WAVES = frozenset(
    {
        "data2vec-audio",
        "hubert",
        "sew",
        "sew-d",
        "unispeech",
        "unispeech-sat",
        "wav2vec2",
        "wav2vec2-conformer",
        "wavlm",
    }
)
"""The model_types that take the samples of a recording, and that optimum exports."""
_SPECTROGRAMS = frozenset({"audio-spectrogram-transformer", "whisper"})
"""Of the classifiers, those that take a spectrogram."""


class Speech(Family):
    """Recordings to text or labels.

    Whisper is an encoder of sound and a decoder that is given what it has computed for the tokens before; the others
    are one graph that answers for the whole recording, or for every frame of it.
    """

    name = "speech"
    input_kind = "audio"

    def roles(self, config: Mapping[str, Any], task: str) -> tuple[str, ...]:
        return ENCODER_DECODER if task == _SPEECH and not is_ctc(config, task) else (MODEL,)

    def needed(self, config: Mapping[str, Any], task: str) -> tuple[str, ...]:
        if is_ctc(config, task):
            return ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json")
        return super().needed(config, task)

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        kind = config.get("model_type")
        if architecture.endswith("ForCTC"):
            return [_SPEECH] if kind in _WAVES else []
        if architecture.endswith(("ForAudioClassification", "ForSequenceClassification")):
            return [_SOUNDS] if kind in _WAVES | _SPECTROGRAMS else []
        hears = "num_mel_bins" in config and bool(config.get("is_encoder_decoder"))
        return [_SPEECH] if hears and architecture.endswith("ForConditionalGeneration") else []

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        if task == _SOUNDS:
            return class_metrics(config, task)
        return FRAMES if is_ctc(config, task) else TOKENS


FAMILY = Speech()
