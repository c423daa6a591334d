"""Translators, summarizers and other models that read a text and write another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from modeldrop.build.tasks.seq2seq import Seq2Seq
from modeldrop.build.variants import FP32
from modeldrop.build.workers import companions
from modeldrop.build.workers.checkpoint import Checkpoint, load_model, load_tokenizer
from modeldrop.build.workers.families.interface import Family, Timed
from modeldrop.build.workers.families.past import NEW_TOKENS, TIMED_TOKENS, Past, batch, shortened
from modeldrop.build.workers.optimum_export import export
from modeldrop.build.workers.timing import BATCH, TOKENS, speed_texts
from modeldrop.format.golden import Link
from modeldrop.selftest.chains import Answer, Chain, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from modeldrop.build.samples import Sample

_ENCODER, _DECODER = Seq2Seq.graphs
_READ = 128


class Seq2SeqModel(Family):
    """An encoder and a decoder; compared token by token on what the original writes by itself."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._source = checkpoint.folder
        self._model = load_model(checkpoint, transformers.AutoModelForSeq2SeqLM)
        self._tokenizer = load_tokenizer(checkpoint, self._model.config)
        self.max_length = self._tokenizer.model_max_length

    def export(self, output: Path) -> None:
        export(self._model, "text2text-generation-with-past", (_ENCODER, _DECODER), output)
        self._past = Past(output / FP32.path(_DECODER))
        encoder = self._model.get_encoder()
        if encoder.config is not self._model.config:
            # optimum switches remembering on everywhere, and T5's encoder refuses to answer with it.
            encoder.config.use_cache = False

    def save_companions(self, output: Path) -> None:
        companions.save_tokenizer(self._tokenizer, output)
        companions.copy(self._source, output, (*companions.ALWAYS, "generation_config.json"))

    def ask(self, samples: Sequence[Sample]) -> Iterator[Chain]:
        for text, *_ in samples:
            # Reading more than this makes the comparison slow, and shows nothing new.
            inputs = self._tokenizer([text], truncation=True, max_length=min(_READ, self.max_length or _READ))
            yield self._chain(text, inputs, NEW_TOKENS)

    def golden(self, chains: Sequence[Chain], indices: Sequence[int]) -> list[Chain]:
        return shortened(chains)

    def timed(self, samples: Sequence[Sample]) -> list[Timed]:
        (text,), _ = speed_texts([text for text, *_ in samples])
        inputs = self._tokenizer([text], truncation=True, max_length=TOKENS)
        chain = self._chain(text, inputs, TIMED_TOKENS, stop=False)
        return [
            Timed(chain if size == 1 else batch(chain, size), lambda size=size: self._write(inputs, size))  # type: ignore[misc]
            for size in (1, BATCH)
        ]

    def _chain(self, text: str, inputs: Any, limit: int, *, stop: bool = True) -> Chain:
        ids, mask = (np.array(inputs[name], np.int64) for name in ("input_ids", "attention_mask"))
        written = self._greedy(ids, mask, limit, stop=stop)
        start = self._model.config.decoder_start_token_id
        fed = [start, *written[:-1]]
        with torch.inference_mode():
            # In one run, without remembering: that what is remembered is right is part of what is proven.
            logits = self._model(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                decoder_input_ids=torch.tensor([fed]),
                use_cache=False,
            ).logits[0]
        steps = [Step(_ENCODER, {"input_ids": ids, "attention_mask": mask})]
        for number, token in enumerate(fed, 1):
            known: dict[str, Any] = {
                "input_ids": np.array([[token]], np.int64),
                "encoder_attention_mask": mask,
                "encoder_hidden_states": Link(0, "last_hidden_state"),
            }
            known |= self._past.empty() if number == 1 else self._past.after(1, number - 1)
            steps.append(Step(_DECODER, self._past.known(known)))
        outputs = tuple(Link(number, "logits") for number in range(1, len(steps)))
        return Chain(text, tuple(steps), outputs, Answer(logits.numpy(), tuple(written)), read=((text,),))

    def _greedy(self, ids: Any, mask: Any, limit: int, *, stop: bool) -> list[int]:
        """The tokens of the highest score, one after the other, without the rules of a generation_config.json."""
        config = self._model.config
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        with torch.inference_mode():
            read = self._model.get_encoder()(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
            token, past, written = config.decoder_start_token_id, None, []
            for _ in range(limit):
                result = self._model(
                    encoder_outputs=read,
                    attention_mask=torch.tensor(mask),
                    decoder_input_ids=torch.tensor([[token]]),
                    past_key_values=past,
                    use_cache=True,
                )
                past = result.past_key_values
                token = int(result.logits[0, -1].argmax())
                written.append(token)
                if stop and token in ends:
                    break
        return written

    def _write(self, inputs: Any, size: int) -> Any:
        with torch.inference_mode():
            return self._model.generate(
                input_ids=torch.tensor(inputs["input_ids"]).repeat(size, 1),
                attention_mask=torch.tensor(inputs["attention_mask"]).repeat(size, 1),
                max_new_tokens=TIMED_TOKENS,
                min_new_tokens=TIMED_TOKENS,
                do_sample=False,
                num_beams=1,
            )
