"""What a checkpoint can be built for. A new family of models is a module here and one in ``workers/families``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.errors import TaskError
from modeldrop.export.tasks.causal import Causal
from modeldrop.export.tasks.clip import Clip
from modeldrop.export.tasks.interface import Family
from modeldrop.export.tasks.seq2seq import Seq2Seq
from modeldrop.export.tasks.speech import Speech
from modeldrop.export.tasks.text_encoders import TextEncoders
from modeldrop.export.tasks.vision import Vision

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FAMILIES", "Family", "architecture_of", "choose_task", "family_of", "possible_tasks"]

FAMILIES: tuple[Family, ...] = (TextEncoders(), Seq2Seq(), Causal(), Vision(), Clip(), Speech())


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
            f"It builds models for: {', '.join(task for family in FAMILIES for task in family.tasks)}.",
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
    return [task for family in FAMILIES for task in family.possible(config, architecture, embedder=embedder)]


def family_of(task: str) -> Family:
    """The family that does a task."""
    return next(family for family in FAMILIES if task in family.tasks)


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
