"""Causal language models (GPT-2, Llama, Qwen) for the process that builds: what config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import TOKENS, WRITING_TEXTS, Family


class Causal(Family):
    """One graph that is given what it has computed for the tokens before."""

    name = "causal"
    measured = TOKENS
    texts = WRITING_TEXTS
    openvino_inputs = (frozenset({"input_ids", "attention_mask", "beam_idx"}), frozenset({"position_ids"}))

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        if embedder or config.get("is_encoder_decoder") or "vocab_size" not in config:
            return []
        return ["text-generation"] if architecture.endswith(("ForCausalLM", "LMHeadModel")) else []


FAMILY = Causal()
