"""What a checkpoint can be built for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
_EMBEDDER_ENDINGS = ("Model", "ForMaskedLM", "ForPreTraining", *_HEADS)
# Generators, though some of them end in "Model".
_GENERATOR_ENDINGS = ("LMHeadModel", "DoubleHeadsModel", "ForCausalLM", "ForConditionalGeneration")


def choose_task(config: Mapping[str, Any], asked: str | None, *, embedder: bool) -> str:
    """The task to build for: the one asked for, or the one the checkpoint was made for.

    Args:
        config: the checkpoint's config.json.
        asked: the recipe's task, or None to infer it.
        embedder: whether the source has a modules.json, as sentence-transformers models do.

    Raises:
        TaskError: the checkpoint has no weights for the task asked for (a head would be made up at random),
            or is of a kind that this release does not build.
    """
    architecture = architecture_of(config)
    tasks = possible_tasks(config, embedder=embedder)
    if not tasks:
        raise TaskError(
            f"{architecture} is not a kind of model that this release builds.",
            "It builds text encoders: embedders, sequence classifiers, rerankers and token classifiers.",
        )
    if asked is None:
        return tasks[0]
    if asked not in tasks:
        raise TaskError(
            f"This checkpoint ({architecture}) has no weights for {asked}: its head would be made up at random.",
            f"It can be built for: {', '.join(tasks)}.",
        )
    return asked


def possible_tasks(config: Mapping[str, Any], *, embedder: bool) -> list[str]:
    """The tasks that a checkpoint has weights for, the one it was made for first."""
    architecture = architecture_of(config)
    if config.get("is_encoder_decoder") or "vision_config" in config or "vocab_size" not in config:
        return []
    tasks = [task for ending, task in _HEADS.items() if architecture.endswith(ending)]
    if embedder:
        return ["feature-extraction", *tasks]
    if architecture.endswith(_EMBEDDER_ENDINGS) and not architecture.endswith(_GENERATOR_ENDINGS):
        tasks.append("feature-extraction")
    return tasks


def metrics_of(config: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """The fidelity metrics that a checkpoint built for ``task`` is measured by."""
    if task == "feature-extraction":
        return ("cosine_mean", "cosine_min", "max_abs")
    names = config.get("id2label")
    labels = len(names) if isinstance(names, dict) else config.get("num_labels", 2)
    if labels == 1:
        return ("correlation", "max_abs")
    return ("cosine_mean", "cosine_min", "max_abs", "top1")


def architecture_of(config: Mapping[str, Any]) -> str:
    """The class the checkpoint was saved from, such as ``BertModel``.

    Raises:
        TaskError: config.json does not say it.
    """
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    raise TaskError(
        "config.json names no architecture, so nobody can tell what this checkpoint can do.",
        'Add "architectures": ["BertModel"] (the class it was saved from) to its config.json.',
    )
