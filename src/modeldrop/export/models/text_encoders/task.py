"""Embedders, sequence classifiers, rerankers and token classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.builtin_texts import BUILT_IN, GOLDEN, PAIRS
from modeldrop.export.inputs import Sample, builtin_sample
from modeldrop.export.models.family import Family, class_metrics, label_count, problem_of

_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
_EMBEDDER_ENDINGS = ("Model", "ForMaskedLM", "ForPreTraining", *_HEADS)
# Generators, though some of them end in "Model".
_GENERATOR_ENDINGS = ("LMHeadModel", "DoubleHeadsModel", "ForCausalLM", "ForConditionalGeneration")


class TextEncoders(Family):
    """One graph that turns tokens into vectors or scores, all at once."""

    name = "text_encoders"
    most_texts = 2
    texts, golden = BUILT_IN, GOLDEN
    openvino_inputs = (frozenset({"input_ids"}), frozenset({"attention_mask", "token_type_ids"}))

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        if config.get("is_encoder_decoder") or "vision_config" in config or "vocab_size" not in config:
            return []
        tasks = [task for ending, task in _HEADS.items() if architecture.endswith(ending)]
        if embedder:
            return ["feature-extraction", *tasks]
        if architecture.endswith(_EMBEDDER_ENDINGS) and not architecture.endswith(_GENERATOR_ENDINGS):
            tasks.append("feature-extraction")
        return tasks

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        if task == "feature-extraction":
            return ("cosine_mean", "cosine_min", "max_abs", *(("neighbours",) if embedder else ()))
        return class_metrics(config, task)

    def built_in(self, config: Mapping[str, Any], task: str) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
        if task == "text-classification" and label_count(config) == 1 and not problem_of(config, task):
            return tuple(builtin_sample(pair) for pair in PAIRS), tuple(range(0, len(PAIRS), len(PAIRS) // 4))
        return super().built_in(config, task)


FAMILY = TextEncoders()
