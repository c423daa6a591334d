"""What is common to models whose encoder reads once and whose decoder writes token by token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from modeldrop.export.models.family import ENCODER_DECODER
from modeldrop.export.models.shared.kv_cache import NEW_TOKENS, TIMED_TOKENS, KvCache, repeated
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun
from modeldrop.export.models.shared.optimum_export import export
from modeldrop.export.models.shared.timing import BATCH
from modeldrop.format.golden import StepOutput
from modeldrop.format.variants import FP32
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep

if TYPE_CHECKING:
    Read: TypeAlias = tuple[tuple[str, ...], ...]

_ENCODER, _DECODER = ENCODER_DECODER
_MASK = "attention_mask"


class EncoderDecoder(LoadedModel):
    """Compared token by token on what the original writes by itself."""

    _model: Any

    def export_as(self, task: str, output: Path) -> None:
        """Write both graphs; ``task`` is optimum's name, such as ``text2text-generation-with-past``.

        Raises:
            TaskError, ExportError: it cannot be exported.
        """
        export(self._model, task, (_ENCODER, _DECODER), output)
        self._cache = KvCache.of(output / FP32.path(_DECODER))
        encoder = self._model.get_encoder()
        if encoder.config is not self._model.config:
            # optimum switches the cache on everywhere, and T5's encoder refuses to answer with it.
            encoder.config.use_cache = False

    def make_run(self, text: str, inputs: Mapping[str, Array], read: Read) -> ModelRun:
        """The run of the encoder, then one of the decoder for every token that the original writes, 16 at most.

        Args:
            text: what people are shown.
            inputs: of the encoder, of a batch of one.
            read: what the tokenizer makes them of; () without one.
        """
        return self._run_writing(text, inputs, read, self._greedy(inputs, NEW_TOKENS, stop=True)[0])

    def timed_on(self, inputs: Mapping[str, Array]) -> list[TimedRun]:
        """One input and a batch of 32 equal ones, writing the same number of tokens whatever they are."""
        alone = self._run_writing("", inputs, (), self._greedy(inputs, TIMED_TOKENS, stop=False)[0])
        return [self._timed(alone, inputs, size) for size in (1, BATCH)]

    def _timed(self, alone: ModelRun, inputs: Mapping[str, Array], size: int) -> TimedRun:
        rows = {name: array.repeat(size, 0) for name, array in inputs.items()}
        return TimedRun(repeated(alone, size), lambda: self._greedy(rows, TIMED_TOKENS, stop=False))

    def _run_writing(self, text: str, inputs: Mapping[str, Array], read: Read, written: list[int]) -> ModelRun:
        fed = [self._model.config.decoder_start_token_id, *written[:-1]]
        with torch.inference_mode():
            # All at once and without a cache: that the cache is right is part of what is compared.
            result = self._model(**_tensors(inputs), decoder_input_ids=torch.tensor([fed]), use_cache=False)
        steps = [RunStep(_ENCODER, inputs)]
        for number, token in enumerate(fed, 1):
            known: dict[str, Array | StepOutput] = {
                "input_ids": np.array([[token]], np.int64),
                "encoder_hidden_states": StepOutput(0, "last_hidden_state"),
            }
            if _MASK in inputs:
                known["encoder_attention_mask"] = inputs[_MASK]
            known |= self._cache.empty() if number == 1 else self._cache.after(1, number - 1)
            steps.append(RunStep(_DECODER, self._cache.known(known)))
        outputs = tuple(StepOutput(number, "logits") for number in range(1, len(steps)))
        return ModelRun(text, tuple(steps), outputs, ModelAnswer(result.logits[0].numpy(), tuple(written)), read=read)

    def _greedy(self, inputs: Mapping[str, Array], limit: int, *, stop: bool) -> list[list[int]]:
        """By row the tokens of the highest score, one after the other, without the rules of a generation_config.json.

        ``stop`` ends with the first row's end-of-text token.
        """
        config = self._model.config
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        tensors = _tensors(inputs)
        mask = {_MASK: tensors[_MASK]} if _MASK in tensors else {}
        past, written = None, []
        with torch.inference_mode():
            read = self._model.get_encoder()(**tensors)
            fed = torch.full((len(read[0]), 1), config.decoder_start_token_id)
            for _ in range(limit):
                result = self._model(
                    encoder_outputs=read, decoder_input_ids=fed, past_key_values=past, use_cache=True, **mask
                )
                past, fed = result.past_key_values, result.logits[:, -1:].argmax(-1)
                written.append(fed)
                if stop and int(fed[0]) in ends:
                    break
        return torch.cat(written, 1).tolist()


def _tensors(inputs: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in inputs.items()}
