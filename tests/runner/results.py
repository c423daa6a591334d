"""What became of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.runner.workflow_commands import Annotation


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that ran, was skipped or failed.

    ``outcome`` is what happened, ``conclusion`` the same after continue-on-error. ``log``, ``annotations`` and
    ``summary`` are the step's and its steps' own, as they were written, before masking. The runner's own remark
    that a process ended with some exit code is no annotation here: ``exit_code`` tells it.
    """

    id: str
    name: str
    outcome: str
    conclusion: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    annotations: tuple[Annotation, ...] = ()
    summary: str = ""
    exit_code: int = 0
    steps: tuple[StepResult, ...] = ()

    @property
    def errors(self) -> list[Annotation]:
        """Its annotations of level error."""
        return [found for found in self.annotations if found.level == "error"]

    @property
    def ran(self) -> list[str]:
        """The ids, or else names, of its own steps that were not skipped."""
        return [step.id or step.name for step in self.steps if step.outcome != "skipped"]

    def step(self, name: str) -> StepResult:
        """Its step with this id or name."""
        return next(step for step in self.steps if name in (step.id, step.name))
