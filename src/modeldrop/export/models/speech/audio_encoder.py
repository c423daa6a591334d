"""Models of sound that are one graph: classifiers, and what hears letters frame by frame (CTC)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch.nn.utils import parametrize

from modeldrop.errors import SourceError
from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.family import is_ctc
from modeldrop.export.models.shared.checkpoint import load_original, load_preprocessor
from modeldrop.export.models.shared.golden import narrowed_frames
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun, label_names
from modeldrop.export.models.shared.media import coarse, sounds, sounds_of
from modeldrop.export.models.shared.timing import BATCH
from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep, answer_of
from modeldrop.util.text import first_line

_ROLE, _LOGITS = "model", "logits"
_GOLDEN = 2
_SAMPLES, _CELLS = 16_000, 1_000
_TOKENIZER_FILES = ("vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


class AudioEncoder(LoadedModel):
    """One graph that takes what the checkpoint's feature extractor makes of a recording: samples, or a spectrogram."""

    source_files = ("preprocessor_config.json", *_TOKENIZER_FILES)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._ctc = is_ctc(checkpoint.read("config.json"), checkpoint.task)
        kind = transformers.AutoModelForCTC if self._ctc else transformers.AutoModelForAudioClassification
        self._extractor = load_preprocessor(checkpoint, transformers.AutoFeatureExtractor, "feature extractor")
        self._letters = _load_letters(checkpoint) if self._ctc else None
        self._model = load_original(checkpoint, kind)
        _fold(self._model)
        self.labels = [] if self._ctc else label_names(self._model.config)
        # The blank comes first in what is compared: see ``inference.metrics``.
        blank = self._letters.pad_token_id if self._letters else 0
        width = self._model.config.vocab_size if self._ctc else 0
        self._at = (blank, *(index for index in range(width) if index != blank)) if self._ctc else ()

    def save_side_files(self, output: Path) -> None:
        super().save_side_files(output)
        if self._letters is not None:
            made = _decoder_of(self._letters)
            # transformers takes blanks off both ends, and so does whoever decodes with it: a decoder cannot say so.
            if all(made.decode(ids).strip() == self._letters.decode(ids) for ids in self._heard_ids()):
                made.save(str(output / "tokenizer.json"))

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        for name, sound in sounds_of(samples, self._extractor.sampling_rate):
            yield self._make_run(name, *self._heard(sound))

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        ((name, whole),) = runs[0].steps[0].inputs.items()
        made = []
        for seed in range(_GOLDEN):
            shape = whole.shape  # type: ignore[union-attr]
            known = _coarse_samples(seed) if len(shape) == 2 else coarse((1, *shape), seed)[0]
            made.append(self._make_run(f"coarse noise {seed}", name, known))
        return [narrowed_frames(run) for run in made] if self._ctc else made

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        _, sound = next(iter(sounds(self._extractor.sampling_rate)))
        name, heard = self._heard(sound)
        return [self._timed(name, heard.repeat(size, 0)) for size in (1, BATCH)]

    def _timed(self, name: str, heard: Array) -> TimedRun:
        return TimedRun(self._run("", name, heard), lambda: self._ask(name, heard))

    def _heard_ids(self) -> Iterator[list[int]]:
        """What the original hears, frame by frame, in the built-in sounds."""
        for _, sound in sounds(self._extractor.sampling_rate):
            yield self._ask(*self._heard(sound))[0].argmax(-1).tolist()

    def _heard(self, sound: Array) -> tuple[str, Array]:
        heard = self._extractor(sound, sampling_rate=self._extractor.sampling_rate, return_tensors="np")
        name = self._extractor.model_input_names[0]
        return name, np.asarray(heard[name], np.float32)

    def _make_run(self, shown: str, name: str, heard: Array) -> ModelRun:
        run = self._run(shown, name, heard)
        return replace(run, answer=ModelAnswer(answer_of([self._ask(name, heard)[0].numpy()], run)))

    def _run(self, shown: str, name: str, heard: Array) -> ModelRun:
        """A run whose answer nobody has asked for."""
        step = RunStep(_ROLE, {name: heard})
        return ModelRun(shown, (step,), (StepOutput(0, _LOGITS),), ModelAnswer(np.zeros(0)), at=self._at)

    def _ask(self, name: str, heard: Array) -> torch.Tensor:
        with torch.inference_mode():
            return self._model(**{name: torch.tensor(heard)}).logits  # type: ignore[no-any-return]


def _fold(model: Any) -> None:
    """Have layers whose weights are computed at every call (weight normalization) keep what is computed.

    Else they are no weights of the graph, and nothing makes them small.
    """
    if not isinstance(model, torch.nn.Module):
        return  # ready graphs
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def _coarse_samples(seed: int) -> Array:
    """A second of sound [1, samples] in a thousand equal parts: as few numbers as a manifest can keep."""
    parts = np.random.default_rng(seed).uniform(-1.5, 1.5, _CELLS).round(2).astype(np.float32)
    return parts.repeat(_SAMPLES // _CELLS)[None]


def _load_letters(checkpoint: Checkpoint) -> Any:
    """The tokenizer that makes a text of frames.

    Raises:
        SourceError: it is missing, or has no token for a frame without a letter.
    """
    try:
        letters = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:
        raise SourceError(
            f"transformers cannot load the tokenizer: {first_line(error)}",
            "Put vocab.json and tokenizer_config.json beside the weights.",
        ) from error
    if letters.pad_token_id is None:
        raise SourceError(
            "The tokenizer has no padding token, which stands for a frame without a letter.",
            "Put the tokenizer that the model was trained with beside the weights.",
        )
    return letters


def _decoder_of(letters: Any) -> Any:
    """A tokenizer.json that makes a text of frames, for programs without transformers."""
    vocabulary = {token: index for token, index in letters.get_vocab().items() if isinstance(index, int)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, str(letters.unk_token)))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    made.decoder = tokenizers.decoders.CTC(
        pad_token=letters.pad_token, word_delimiter_token=letters.word_delimiter_token or "|", cleanup=True
    )
    return made
