"""How the models of one family are loaded, exported and asked, in PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldrop.export.samples import Sample
from modeldrop.export.workers.checkpoint import Checkpoint
from modeldrop.inference.runs import Chain


@dataclass(frozen=True, slots=True)
class Timed:
    """A call whose time is measured: what the variants are asked, and the same in PyTorch."""

    chain: Chain
    original: Callable[[], object]


class Family(ABC):
    """A model that is loaded; the order of calls is ``export``, ``save_companions``, then whatever is asked.

    What can be told of a family without loading anything is in the module of the same name in ``build/tasks``.

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
    def save_companions(self, output: Path) -> None:
        """Write everything beside the graphs that a runtime needs."""

    @abstractmethod
    def ask(self, samples: Sequence[Sample]) -> Iterator[Chain]:
        """What every variant is compared on: one chain an input, with the model's own answer.

        Args:
            samples: of the kind that the family is asked; () for built-in pictures and recordings.
        """

    @abstractmethod
    def golden(self, chains: Sequence[Chain], indices: Sequence[int]) -> list[Chain]:
        """The few that are kept in the manifest.

        Args:
            chains: what ``ask`` gave.
            indices: those that are meant to be kept.
        """

    @abstractmethod
    def timed(self, samples: Sequence[Sample]) -> list[Timed]:
        """One input, and a batch of 32."""


def label_names(config: Any) -> list[str]:
    """The labels of a classifier, by index."""
    return [str(config.id2label[index]) for index in sorted(config.id2label)]
