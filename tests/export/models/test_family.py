"""Every task has a family: a folder of ``export/models`` with a side for the parent and one for the worker."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from modeldrop.export import models
from modeldrop.format.tasks import TASKS

ROOT = Path(models.__file__).parent
FAMILIES = sorted({task.family for task in TASKS.values()})


@pytest.mark.parametrize("task", TASKS)
def test_a_task_finds_its_family(task: str) -> None:
    assert models.family_of(task).name == TASKS[task].family


# The worker of generic models knows its one class.
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"generic"}))
def test_a_family_has_a_model_for_the_worker(family: str) -> None:
    # Read, not imported: its libraries belong to the worker.
    names = [
        target.id
        for node in ast.parse((ROOT / family / "worker.py").read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert "MODEL" in names


def test_there_is_no_family_without_a_task() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/task.py")}
    assert folders == set(FAMILIES)
