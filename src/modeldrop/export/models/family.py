"""What a family of models is: which tasks a checkpoint can do, and what a version of it consists of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.inputs import Sample, builtin_sample
from modeldrop.format.manifest import MODEL
from modeldrop.format.tasks import CTC, MULTI_LABEL, REGRESSION, TASKS

CLASSES = ("cosine_mean", "cosine_min", "max_abs", "top1", "kl")
"""Metrics of scores of labels; see ``inference.metrics``."""
SPANS = ("cosine_mean", "cosine_min", "max_abs", "spans", "kl")
"""Metrics of models that find answers in a passage."""
FRAMES = ("cosine_mean", "cosine_min", "max_abs", "top1", "kl", "transcript")
"""Metrics of models that hear letters, frame by frame."""
BOXES = ("boxes", "iou", "max_abs")
"""Metrics of models that find things in pictures."""
TOKENS = ("cosine_mean", "cosine_min", "max_abs", "top1", "kl", "greedy_prefix", "perplexity_gap")
"""Metrics of models that write."""
WRITING_TEXTS = BUILT_IN[::4]
"""The built-in texts for models that write: fewer, for writing takes longer than reading."""
ENCODER_DECODER = ("encoder_model", "decoder_model_merged")
"""The graphs of models whose encoder reads once and whose decoder writes token by token."""


class Family(ABC):
    """Models that are exported, run and compared in the same way.

    Here is what can be told from config.json alone; ``worker.py`` beside it has the model itself.
    """

    name: ClassVar[str]
    """Of its folder."""
    input_kind: ClassVar[str] = "text"
    """The kind of ``Sample`` that they take."""
    openvino_inputs: ClassVar[tuple[frozenset[str], frozenset[str]] | None] = None
    """What a ready OpenVINO graph must take, and may take; None where such graphs are not taken as they are."""
    measured: ClassVar[tuple[str, ...]] = ()
    """The fidelity metrics of all its models."""
    texts: ClassVar[tuple[str, ...]] = ()
    """What variants are compared on where the recipe names no inputs; () for pictures and recordings, which the worker
    draws."""
    golden: ClassVar[tuple[int, ...]] = ()
    """Indices of those texts whose answers the manifest keeps; () where the worker chooses."""

    def roles(self, config: Mapping[str, Any], task: str) -> tuple[str, ...]:
        """The graphs of a version, the first that runs first; a role is also the name of its file."""
        return (MODEL,)

    def needed(self, config: Mapping[str, Any], task: str) -> tuple[str, ...]:
        """The files that every runtime needs beside the graphs; where tokenizer.json is among them, it is compared."""
        texts = ("tokenizer.json", "tokenizer_config.json") if TASKS[task].has_tokenizer else ()
        return (
            "config.json",
            *texts,
            *(("preprocessor_config.json",) if self.input_kind in {"image", "audio"} else ()),
        )

    @abstractmethod
    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        """The tasks that a checkpoint has weights for, the one it was made for first; [] for another family's.

        Args:
            config: its config.json.
            architecture: the class it was saved from.
            embedder: whether it has a modules.json, as sentence-transformers models do.
        """

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        """The fidelity metrics that a checkpoint built for ``task`` is measured by."""
        return self.measured

    def built_in(self, config: Mapping[str, Any], task: str) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
        """The samples that variants are compared on where the recipe names none, and which of them are golden."""
        return tuple(builtin_sample((text,)) for text in self.texts), self.golden


_EACH_LABEL_ALONE = {"d_fine", "rt_detr", "rt_detr_v2"}
"""The model_types of detectors that score every label by itself; of the others, a last score is that of nothing."""


def problem_of(config: Mapping[str, Any], task: str) -> str:
    """What scores mean: ``MULTI_LABEL``, ``REGRESSION``, ``CTC``, or "" for labels of which one is true.

    Args:
        config: its config.json; training by transformers writes ``problem_type`` into it.
        task: what it is built for.
    """
    problem = config.get("problem_type")
    if is_ctc(config, task):
        return CTC
    if task == "object-detection":
        return MULTI_LABEL if config.get("model_type") in _EACH_LABEL_ALONE else ""
    judged = task in {"text-classification", "image-classification"}
    return problem if judged and problem in (MULTI_LABEL, REGRESSION) else ""


def is_ctc(config: Mapping[str, Any], task: str) -> bool:
    """Whether what is built for ``task`` hears letters, frame by frame; others write what they have heard."""
    names = config.get("architectures") or [""]
    return task == "automatic-speech-recognition" and str(names[0]).endswith("ForCTC")


def hears(config: Mapping[str, Any]) -> bool:
    """Whether a model takes sound: samples for its convolutions, or a spectrogram."""
    return "conv_dim" in config or "num_mel_bins" in config


def class_metrics(config: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """The fidelity metrics of a classifier; of a single label, those of a reranker."""
    problem, labels = problem_of(config, task), label_count(config)
    if problem == REGRESSION:
        return ("nrmse", "correlation", "max_abs")
    if problem == MULTI_LABEL:
        return ("cosine_mean", "cosine_min", "decisions", "max_abs")
    if labels == 1:
        return ("correlation", "kendall_tau", "top10", "max_abs")
    return (*CLASSES, *(("top5",) if labels > 5 else ()))


def label_count(config: Mapping[str, Any]) -> int:
    """How many labels a classifier has."""
    names = config.get("id2label")
    return len(names) if isinstance(names, dict) else int(config.get("num_labels", 2))
