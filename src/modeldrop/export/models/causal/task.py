"""Language models that go on with a text: GPT-2, Llama, Qwen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.export.models.family import TOKENS, Family, writing_samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.export.inputs import Sample


class Causal(Family):
    """One graph that is given what it has computed for the tokens before."""

    name = "causal"
    openvino_inputs = (frozenset({"input_ids", "attention_mask", "beam_idx"}), frozenset({"position_ids"}))

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        if embedder or config.get("is_encoder_decoder") or "vocab_size" not in config:
            return []
        return ["text-generation"] if architecture.endswith(("ForCausalLM", "LMHeadModel")) else []

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        return TOKENS

    def built_in(self, config: Mapping[str, Any], task: str) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
        return writing_samples(), ()


FAMILY = Causal()
