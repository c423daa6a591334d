"""Encoders of texts for the process that builds: what config.json says.

Embedders, classifiers of texts and tokens, rerankers, and what finds answers or hidden words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.builtin_texts import BUILT_IN, GOLDEN_TEXTS, PAIRS
from modeldrop.export.inputs import Sample, builtin_sample
from modeldrop.export.models.family import CLASSES, SPANS, Family, class_metrics, hears, label_count, problem_of
from modeldrop.export.sentence_modules import is_static

_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
_MASKED = "ForMaskedLM"
_EMBEDDER_ENDINGS = ("Model", _MASKED, "ForPreTraining", *_HEADS)
# Generators, though some of them end in "Model".
_GENERATOR_ENDINGS = ("LMHeadModel", "DoubleHeadsModel", "ForCausalLM", "ForConditionalGeneration")


class TextEncoders(Family):
    """One graph that turns tokens into vectors or scores, all at once."""

    name = "text_encoders"
    texts, golden = BUILT_IN, GOLDEN_TEXTS
    openvino_inputs = (frozenset({"input_ids"}), frozenset({"attention_mask", "token_type_ids"}))

    def needed(self, config: Mapping[str, Any], task: str) -> tuple[str, ...]:
        return ("config.json", "tokenizer.json") if is_static(config) else super().needed(config, task)

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        if is_static(config):
            return ["feature-extraction"]
        if config.get("is_encoder_decoder") or "vision_config" in config or "vocab_size" not in config or hears(config):
            return []
        tasks = [task for ending, task in _HEADS.items() if architecture.endswith(ending)]
        if embedder:
            return ["feature-extraction", *tasks]
        if architecture.endswith(_EMBEDDER_ENDINGS) and not architecture.endswith(_GENERATOR_ENDINGS):
            tasks.append("feature-extraction")
        if architecture.endswith(_MASKED):
            tasks.append("fill-mask")  # if it is named: most are taken for what their vectors are worth
        return tasks

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        if task == "feature-extraction":
            return ("cosine_mean", "cosine_min", "max_abs", *(("neighbours",) if embedder else ()))
        if task == "question-answering":
            return SPANS
        if task == "fill-mask":
            return (*CLASSES, "top5")
        return class_metrics(config, task)

    def built_in(self, config: Mapping[str, Any], task: str) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
        reranks = task == "text-classification" and label_count(config) == 1 and not problem_of(config, task)
        if reranks or task == "question-answering":
            return tuple(builtin_sample(pair) for pair in PAIRS), tuple(range(0, len(PAIRS), len(PAIRS) // 4))
        return super().built_in(config, task)


FAMILY = TextEncoders()
