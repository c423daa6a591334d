"""Language models that go on with a text: GPT-2, Llama, Qwen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.export.tasks.interface import TOKENS, WRITING, Family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.export.samples import Sample


class Causal(Family):
    """One graph that remembers what it has computed for the tokens before."""

    name = "causal"
    tasks = ("text-generation",)

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        if embedder or config.get("is_encoder_decoder") or "vocab_size" not in config:
            return []
        return list(self.tasks) if architecture.endswith(("ForCausalLM", "LMHeadModel")) else []

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        return TOKENS

    def built_in(self, config: Mapping[str, Any], task: str) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
        return WRITING, ()
