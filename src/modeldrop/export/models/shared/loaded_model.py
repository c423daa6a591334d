"""The original model as a worker has it: what every family implements to load, export and run it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared import side_files
from modeldrop.format.manifest import MODEL, Embedding
from modeldrop.format.tasks import TASKS
from modeldrop.inference.runs import ModelRun

_SEGMENTS = "token_type_ids"


@dataclass(frozen=True, slots=True)
class TimedRun:
    """A run whose time is measured: as the variants do it, and the same by the original."""

    run: ModelRun
    original: Callable[[], object]


class LoadedModel(ABC):
    """A model that is loaded. It is exported, and its side files are saved, before it is run.

    Raises:
        SourceError: it cannot be loaded as it is.
        TaskError: the recipe asks for what the model cannot do.
    """

    source_files: ClassVar[tuple[str, ...]] = ()
    """Patterns of the files that a version takes from the source, besides those that it takes from every source."""
    labels: Sequence[str] = ()
    """Names of the classes, by index."""
    columns: tuple[str, ...] = ()
    """Names of the columns of its only input, where that is a matrix and they have some."""
    max_length: int | None = None
    """Tokens a text is cut to."""
    weight_bytes: int = 0
    """Bytes of its weights, where the source's files do not tell."""
    _model: Any
    _tokenizer: Any = None
    _padded_to: int | None = None
    """Tokens that every text is padded to, of models that count the padding's; None for those that leave it out."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._source, self._task = checkpoint.folder, checkpoint.task

    def export(self, output: Path) -> None:
        """Write the graphs in fp32 into the version's folder, under their names there.

        Raises:
            TaskError, ExportError: it cannot be exported.
        """
        from modeldrop.export.models.shared.optimum_export import export  # other environments have none

        export(self._model, self._task, (MODEL,), output)

    def save_side_files(self, output: Path) -> None:
        """Write everything beside the graphs that a runtime needs."""
        if self._tokenizer is not None:
            forward = getattr(self._model, "forward", None)
            if forward is not None and _SEGMENTS not in signature(forward).parameters:
                # transformers 4 has them in every tokenizer of its general class, and generate() refuses them.
                names = [name for name in self._tokenizer.model_input_names if name != _SEGMENTS]
                self._tokenizer.model_input_names = self._tokenizer.init_kwargs["model_input_names"] = names
            side_files.save_tokenizer(self._tokenizer, output, self._padded_to)
        side_files.copy_side_files(self._source, output, (*side_files.ALWAYS, *self.source_files))

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

    def embedding(self, runs: Sequence[ModelRun]) -> Embedding | None:
        """How it embeds; None where sentences have no vector.

        Args:
            runs: what ``runs`` gave.
        """
        return None

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
