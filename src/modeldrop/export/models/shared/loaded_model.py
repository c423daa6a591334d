"""The original model as a worker has it: what every family implements to load, export and run it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from modeldrop.export.inputs import Sample
from modeldrop.export.models.shared.checkpoint import Checkpoint
from modeldrop.format.tasks import TASKS
from modeldrop.inference.runs import ModelRun


@dataclass(frozen=True, slots=True)
class TimedRun:
    """A run whose time is measured: as the variants do it, and the same by the original."""

    run: ModelRun
    original: Callable[[], object]


class LoadedModel(ABC):
    """A model that is loaded. It is exported, and its side files are saved, before it is run.

    Args:
        checkpoint: where the model is.

    Raises:
        SourceError: it cannot be loaded as it is.
        TaskError: the recipe asks for what the model cannot do.
    """

    labels: Sequence[str] = ()
    """Names of the classes, by index."""
    max_length: int | None = None
    """Tokens a text is cut to."""

    @abstractmethod
    def __init__(self, checkpoint: Checkpoint) -> None: ...

    @abstractmethod
    def export(self, output: Path) -> None:
        """Write the graphs in fp32 into the version's folder, under their names there.

        Raises:
            TaskError, ExportError: it cannot be exported.
        """

    @abstractmethod
    def save_side_files(self, output: Path) -> None:
        """Write everything beside the graphs that a runtime needs."""

    @abstractmethod
    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        """What every variant is compared on: one run for each input, with the model's own answer.

        Args:
            samples: of the family's ``input_kind``; () for built-in pictures and recordings.
        """

    @abstractmethod
    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        """The few that are kept in the manifest.

        Args:
            runs: what ``runs`` gave.
            indices: those that are meant to be kept, of families that keep them as they are.
        """

    @abstractmethod
    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        """One input, and a batch of 32."""


def load_model(checkpoint: Checkpoint) -> LoadedModel:
    """Load a checkpoint for its task, by the ``worker`` module of the task's family.

    Raises:
        SourceError, TaskError: see ``LoadedModel``.
    """
    worker = import_module(f"modeldrop.export.models.{TASKS[checkpoint.task].family}.worker")
    return worker.MODEL(checkpoint)  # type: ignore[no-any-return]


def label_names(config: Any) -> list[str]:
    """The labels of a classifier, by index."""
    return [str(config.id2label[index]) for index in sorted(config.id2label)]
