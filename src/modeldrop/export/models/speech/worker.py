"""Models of sound for the worker: how they are loaded, exported and asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from modeldrop.errors import SourceError
from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.family import is_ctc
from modeldrop.export.models.shared.checkpoint import load_config, load_original, load_preprocessor
from modeldrop.export.models.shared.encoder_decoder import EncoderDecoder
from modeldrop.export.models.shared.kv_cache import golden_runs
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun
from modeldrop.export.models.shared.media import coarse, sounds, sounds_of
from modeldrop.export.models.shared.tokenizer import load_tokenizer
from modeldrop.export.models.speech.audio_encoder import AudioEncoder
from modeldrop.inference.runs import Array, ModelRun

_FEATURES = "input_features"
_GOLDEN = 2


class SpeechRecognizer(EncoderDecoder):
    """An encoder of spectrograms, made by the checkpoint's own feature extractor, and a decoder: Whisper."""

    source_files = ("preprocessor_config.json", "generation_config.json", "normalizer.json")

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = load_config(checkpoint)
        self._tokenizer = load_tokenizer(checkpoint, config)
        self._extractor = load_preprocessor(checkpoint, transformers.AutoFeatureExtractor, "feature extractor")
        _check_window(self._extractor, config)
        self._model = load_original(checkpoint, transformers.AutoModelForSpeechSeq2Seq)

    def export(self, output: Path) -> None:
        self.export_as(f"{self._task}-with-past", output)

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        for name, sound in sounds_of(samples, self._extractor.sampling_rate):
            yield self.make_run(name, self._heard(sound), ())

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        whole = runs[0].steps[0].inputs[_FEATURES]
        features = (coarse(whole.shape, seed) for seed in range(_GOLDEN))  # type: ignore[union-attr]
        return golden_runs(
            [self.make_run(f"coarse noise {seed}", {_FEATURES: one}, ()) for seed, one in enumerate(features)]
        )

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        _, sound = next(iter(sounds(self._extractor.sampling_rate)))
        return self.timed_on(self._heard(sound))

    def _heard(self, sound: Array) -> dict[str, Array]:
        heard = self._extractor(sound, sampling_rate=self._extractor.sampling_rate, return_tensors="np")
        return {_FEATURES: np.asarray(heard[_FEATURES], np.float32)}


def _check_window(extractor: Any, config: Any) -> None:
    """Refuse a feature extractor whose windows have another length than the model's.

    Raises:
        SourceError: says how long both are.
    """
    made, heard = getattr(extractor, "nb_max_frames", None), 2 * config.max_source_positions
    if made is not None and made != heard:
        raise SourceError(
            f"preprocessor_config.json makes {made} frames of a recording, and the model hears {heard} "
            f"(max_source_positions is {config.max_source_positions}).",
            f"Save it with chunk_length={heard * extractor.hop_length // extractor.sampling_rate}, in seconds.",
        )


def listener(checkpoint: Checkpoint) -> LoadedModel:
    """The model of a checkpoint: one that writes token by token, or one graph that answers at once.

    Raises:
        SourceError, TaskError: see ``LoadedModel``.
    """
    config = checkpoint.read("config.json")
    writes = checkpoint.task == "automatic-speech-recognition" and not is_ctc(config, checkpoint.task)
    return SpeechRecognizer(checkpoint) if writes else AudioEncoder(checkpoint)


MODEL = listener
