"""A repository whose runs publish made builds into one registry through the real action.yml."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.publishing.plan import plan
from tests.action.machines import USES, Machines, readable
from tests.helpers.publisher import Publisher, named
from tests.runner.events import Event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runner.results import StepResult

MAIN = Event()


class ActionRepository:
    """A repository whose runs publish into one registry, each on a machine of its own."""

    def __init__(self, machines: Machines, folder: Path, registry: str = "", **job: Any) -> None:
        self._machines = machines
        self._publisher = Publisher(folder)
        self._run = 0
        self._job = job
        self.registry = registry or str(folder / "a registry")

    def run(self, seed: str, event: Event = MAIN, *, number: int = 0, **inputs: str) -> StepResult:
        """The next run, or that of a ``number`` again: it publishes the build of a commit, or finds it."""
        self._run += not number
        request = self._publisher.request(seed, self.registry)
        job = self._machines.job(replace(event, run=number or self._run), **self._job)
        given = {
            "model": request.source,
            "name": "embedder",
            "registry": self.registry,
            "phase": "publish",
            "build-folder": str(self._publisher.built(plan(request), seed)),
            "test-command": "echo tested $MODELDROP_NEW_VERSION against ${MODELDROP_CURRENT_VERSION:-nothing}",
        }
        return job.uses(USES, given | {name.replace("_", "-"): value for name, value in inputs.items()})

    def named(self, channel: str = "current") -> int | None:
        """The version that a channel names."""
        return named(self.registry, channel)


@pytest.fixture
def repository(machines: Machines, tmp_path: Path) -> ActionRepository:
    return ActionRepository(machines, tmp_path)


def warnings(result: StepResult) -> list[str]:
    return [found.message for found in result.annotations if found.level == "warning"]


def succeeded(result: StepResult, promotion: str) -> None:
    """The run ended well, and said what became of the channel; the warning is there if, and only if, it had to be."""
    assert result.outcome == "success", result.log
    assert result.outputs["promotion"] == promotion
    assert result.outputs["promoted"] == ("true" if promotion == "moved" else "false")
    assert len(warnings(result)) == (promotion == "held"), warnings(result)
    if promotion == "held":
        assert "To override: modeldrop promote" in warnings(result)[0]
        assert "held" in readable(result.summary)
