"""Causal language models for the worker: how they are loaded, exported and asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.causal.genai_config import GENAI_CONFIG, genai_config
from modeldrop.export.models.shared.checkpoint import load_config, load_original
from modeldrop.export.models.shared.kv_cache import NEW_TOKENS, TIMED_TOKENS, KvCache, golden_runs, repeated
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun
from modeldrop.export.models.shared.openvino_as_model import OpenVinoModel
from modeldrop.export.models.shared.optimum_export import export
from modeldrop.export.models.shared.timing import BATCH, TOKENS, speed_texts
from modeldrop.export.models.shared.tokenizer import load_tokenizer
from modeldrop.format.golden import StepOutput
from modeldrop.format.variants import FP32
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep

_ROLE = "model"
_CACHE_DIMENSIONS = 4


class CausalModel(LoadedModel):
    """One graph with a KV cache; compared on the text itself, and token by token on how the original goes on."""

    source_files = ("generation_config.json", "chat_template.*")

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._tokenizer = load_tokenizer(checkpoint, load_config(checkpoint))
        self._model = load_original(checkpoint, transformers.AutoModelForCausalLM)
        self.max_length = self._tokenizer.model_max_length
        self._generation = checkpoint.read("generation_config.json")

    def export(self, output: Path) -> None:
        export(self._model, "text-generation-with-past", (_ROLE,), output)
        keeps_cache = isinstance(self._model, OpenVinoModel)
        self._cache = KvCache(self._model.inputs, {}) if keeps_cache else KvCache.of(output / FP32.path(_ROLE))

    def save_side_files(self, output: Path) -> None:
        super().save_side_files(output)
        shapes = self._cache.shapes
        if shapes and all(len(shape) == _CACHE_DIMENSIONS for shape in shapes):
            plain = genai_config(
                self._model.config, self._generation, self._cache.inputs, shapes, int(self.max_length or 0)
            )
            (output / GENAI_CONFIG).write_text(json.dumps(plain, indent=2) + "\n", "utf-8")

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        for sample in samples:
            yield self._make_run(sample.texts[0], NEW_TOKENS)

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        return golden_runs(runs)

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        (text,), _ = speed_texts([sample.texts[0] for sample in samples])
        run = self._make_run(text, TIMED_TOKENS)
        ids = torch.tensor(run.steps[0].inputs["input_ids"])
        return [
            TimedRun(run if size == 1 else repeated(run, size), lambda size=size: self._write(ids.repeat(size, 1)))  # type: ignore[misc]
            for size in (1, BATCH)
        ]

    def _make_run(self, text: str, limit: int) -> ModelRun:
        read = self._tokenizer(text, truncation=True, max_length=TOKENS)["input_ids"]
        written = self._greedy(read, limit)
        tokens = [*read, *written]
        with torch.inference_mode():
            # All at once and without a cache: that the cache is right is part of what is compared.
            ids = torch.tensor([tokens[:-1]])
            logits = self._model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
        steps = [self._step(tokens, 0, len(read), self._cache.empty())]
        for place in range(len(read), len(tokens) - 1):
            steps.append(self._step(tokens, place, place + 1, self._cache.after(0, len(steps) - 1)))
        outputs = tuple(StepOutput(number, "logits") for number in range(len(steps)))
        answer = ModelAnswer(logits.numpy(), tuple(tokens[1:]), len(read) - 1)
        return ModelRun(text, tuple(steps), outputs, answer, read=((text,),))

    def _step(self, tokens: Sequence[int], begin: int, end: int, cache: Mapping[str, Array | StepOutput]) -> RunStep:
        """The run that reads the tokens from ``begin`` to ``end`` with the cache of those before."""
        known: dict[str, Array | StepOutput] = {
            "input_ids": np.array([tokens[begin:end]], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(begin, end, dtype=np.int64)[None],
        }
        return RunStep(_ROLE, self._cache.known(known | dict(cache)))

    def _greedy(self, read: Sequence[int], limit: int) -> list[int]:
        """The tokens of the highest score, one after the other, without the rules of a generation_config.json."""
        written: list[int] = []
        past, fed = None, list(read)
        with torch.inference_mode():
            for _ in range(limit):
                seen = torch.ones((1, len(read) + len(written)), dtype=torch.long)
                result = self._model(
                    input_ids=torch.tensor([fed]), attention_mask=seen, past_key_values=past, use_cache=True
                )
                past = result.past_key_values
                fed = [int(result.logits[0, -1].argmax())]
                written += fed
        return written

    def _write(self, ids: torch.Tensor) -> Any:
        with torch.inference_mode():
            return self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TIMED_TOKENS,
                min_new_tokens=TIMED_TOKENS,
                do_sample=False,
                num_beams=1,
            )


MODEL = CausalModel
