"""Everything that can be refused before slow work."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.build.samples import Sample, sample_of
from modeldrop.build.tasks import Family, architecture_of, choose_task, family_of
from modeldrop.build.texts import BUILT_IN
from modeldrop.errors import DiskError, RecipeError, SourceError
from modeldrop.terminal import size_text

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.build.request import BuildRequest

_GOLDEN = 4
# fp32 graph, int8 graph, and the clean copies where they cannot be linked.
_DISK_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Checked:
    """A request whose source was looked at: it can be built for this task.

    Attributes:
        request: what is asked.
        task: the Hub's name of what the model is to do.
        architecture: the class the checkpoint was saved from.
        samples: what the variants are compared on; () for a family that has inputs of its own.
        golden: indices of the samples whose answers are kept in the manifest.
    """

    request: BuildRequest
    task: str
    architecture: str
    samples: tuple[Sample, ...]
    golden: tuple[int, ...]

    @property
    def family(self) -> Family:
        """Of models that are exported and asked in the same way."""
        return family_of(self.task)


def check(request: BuildRequest) -> Checked:
    """Everything that can be refused before slow work.

    Raises:
        SourceError, TaskError: the source cannot be built for the task asked for.
        RecipeError: a threshold on a metric that this task does not have: a gate that would never close.
    """
    config = request.source.config()
    if "rope_parameters" in config and "rope_theta" not in config:
        raise SourceError(
            "config.json has rope_parameters, as transformers 5 writes them. The exporter's transformers 4 would "
            "ignore them, and the model would answer wrongly without a word.",
            "Write the values back as rope_theta (and rope_scaling) into a copy of the checkpoint.",
        )
    embedder = request.source.modules() is not None
    task = choose_task(config, request.recipe.task, embedder=embedder)
    family = family_of(task)
    metrics = family.metrics(config, task, embedder=embedder)
    for variant, limits in request.recipe.thresholds.items():
        for metric in limits:
            if metric not in metrics:
                raise RecipeError(
                    f"thresholds.{variant}.{metric}: this model's task, {task}, has no such metric.",
                    f"Its metrics are: {', '.join(metrics)}.",
                )
    if request.texts is BUILT_IN:
        samples, golden = family.built_in(config, task)
    else:
        samples = tuple(sample_of(line) for line in request.texts)
        golden = tuple(range(min(_GOLDEN, len(samples))))
    return Checked(request, task, architecture_of(config), samples, golden)


def check_disk(folder: Path, weight_bytes: int) -> None:
    """Refuse to begin where the work would not fit.

    Raises:
        DiskError: says how much is free, and how much is needed.
    """
    need = int(weight_bytes * _DISK_FACTOR) + (16 << 20)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise DiskError(
            f"{folder} has {size_text(free)} free; building this model needs about {size_text(need)}.",
            "Free some space, or set TMPDIR to a larger disk.",
        )
