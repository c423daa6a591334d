"""Greedy decoding with an encoder and a decoder that remembers, as flan-t5 is exported; without transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from .engines import Opened
from .graphs import Array
from .tokens import Batch

_PAST, _PRESENT = "past_key_values.", "present."
_BRANCH = "use_cache_branch"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and the probability that the model gave to it."""

    text: str
    probability: float


class Writer:
    """``encoder_model`` and ``decoder_model_merged`` of a snapshot."""

    def __init__(self, opened: Opened) -> None:
        self._tokens = opened.tokens
        self._encoder = opened.graphs["encoder_model"]
        self._decoder = opened.graphs["decoder_model_merged"]
        config = json.loads((opened.folder / "config.json").read_bytes())
        self._start = int(config["decoder_start_token_id"])
        ends = config["eos_token_id"]
        self._ends = list(ends) if isinstance(ends, list) else [ends]

    def write(self, batch: Batch, limit: int) -> list[Written]:
        """Write to every text until the model ends, at most ``limit`` tokens; always the likeliest next token."""
        mask = batch.inputs["attention_mask"]
        fixed = {
            "encoder_attention_mask": mask,
            "encoder_hidden_states": self._encoder.run(batch.inputs)["last_hidden_state"],
        }
        rows = len(mask)
        past = self._nothing(rows)
        last = np.full((rows, 1), self._start, np.int64)
        written: list[list[int]] = [[] for _ in range(rows)]
        chances = np.zeros(rows)
        going = np.ones(rows, bool)
        for step in range(limit):
            outputs = self._decoder.run({"input_ids": last, _BRANCH: np.array([step > 0]), **fixed, **past})
            logits = outputs["logits"][:, -1].astype(np.float64)
            chosen = logits.argmax(1)
            chances += np.where(going, -np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)), 0)
            for row in np.flatnonzero(going):
                written[row].append(int(chosen[row]))
            going &= ~np.isin(chosen, self._ends)
            if not going.any():
                break
            last = chosen[:, None].astype(np.int64)
            past = self._remembered(past, outputs, first=step == 0)
        return [
            Written(self._tokens.decode(ids), float(chance))
            for ids, chance in zip(written, np.exp(chances), strict=True)
        ]

    def _nothing(self, rows: int) -> dict[str, Array]:
        """What is remembered before the first step: tensors [rows, heads, 0, width]."""
        return {
            name: np.zeros([rows, *(size or 0 for size in shape[1:])], np.float32)
            for name, shape in self._decoder.inputs.items()
            if name.startswith(_PAST)
        }

    def _remembered(self, past: dict[str, Array], outputs: dict[str, Array], *, first: bool) -> dict[str, Array]:
        """What the next step needs. The encoder's part is computed in the first step alone, and stays."""
        return {
            name: array if ".encoder." in name and not first else outputs[name.replace(_PAST, _PRESENT, 1)]
            for name, array in past.items()
        }
