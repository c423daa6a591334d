"""The families of models, one folder each: its properties, and how it is loaded, exported and run.

``<family>/task.py`` is read by the process that builds, and needs no library: it tells from a checkpoint's config.json
what can be built. ``<family>/worker.py`` and ``shared`` run in the worker alone, and import torch. A new family is a
folder with these two and a row for its task in ``format/tasks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from modeldrop.errors import TaskError
from modeldrop.export.models.family import Family
from modeldrop.format.tasks import GENERIC, TASKS


def family_of(task: str) -> Family:
    """The family that does a task."""
    return _family(TASKS[task].family)


def choose_task(config: Mapping[str, Any], wanted: str | None, *, embedder: bool) -> str:
    """The task to build for: the one wanted, or the one the checkpoint was made for.

    Args:
        config: the checkpoint's config.json.
        wanted: the recipe's task, or None to infer it.
        embedder: whether the source has a modules.json, as sentence-transformers models do.

    Raises:
        TaskError: the checkpoint has no weights for the task wanted (a head would be made up at random),
            or is of a kind that this release does not build.
    """
    architecture = architecture_of(config)
    tasks = possible_tasks(config, embedder=embedder)
    if not tasks:
        raise TaskError(
            f"{architecture} ({config.get('model_type')}) is not a kind of model that this release builds, neither by "
            "optimum nor by transformers 5.",
            f"It builds checkpoints for: {', '.join(task for task in TASKS if task != GENERIC)}. Of any other, "
            f'give the graph that a program has exported which knows it, with task = "{GENERIC}" in the recipe.',
        )
    if wanted is None:
        return tasks[0]
    if wanted not in tasks:
        raise TaskError(
            f"This checkpoint ({architecture}) has no weights for {wanted}: its head would be made up at random.",
            f"It can be built for: {', '.join(tasks)}.",
        )
    return wanted


def possible_tasks(config: Mapping[str, Any], *, embedder: bool) -> list[str]:
    """The tasks that a checkpoint has weights for, the one it was made for first."""
    architecture = architecture_of(config)
    names = dict.fromkeys(task.family for task in TASKS.values())
    return [task for name in names for task in _family(name).possible(config, architecture, embedder=embedder)]


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


def _family(name: str) -> Family:
    return import_module(f"{__name__}.{name}.task").FAMILY  # type: ignore[no-any-return]
