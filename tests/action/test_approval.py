"""What waits for an approval: proposed by the real action.yml, moved by the last job of publish-models.yml."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.channels import rollback
from modeldrop.storage.write import open_store
from tests.action.machines import ROOT, Machines
from tests.action.repository import ActionRepository, succeeded, warnings
from tests.runner.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runner.expressions import GitHub
    from tests.runner.results import StepResult

RUN = "https://github.com/acme/models/actions/runs"


@pytest.fixture
def approve(machines: Machines, github: GitHub) -> Callable[[int, StepResult], StepResult]:
    """Run the steps of the job that an approval lets go, for what a run has proposed; return the last one."""
    tree = github.workflow(ROOT / ".github/workflows/publish-models.yml", ROOT).tree

    def run(number: int, proposed: StepResult) -> StepResult:
        names = ("reference", "asked-at")
        row = {"name": "embedder", "channel": "current", **{name: proposed.outputs[name] for name in names}}
        job = machines.job(Event(run=number), inputs={"config": ""}, contexts={"matrix": row})
        *_, last = job.steps(tree["jobs"]["promote"]["steps"])
        assert not job.failed, last.log
        return last

    return run


def test_what_was_approved_moves_if_it_still_is_wanted(
    repository: ActionRepository, approve: Callable[[int, StepResult], StepResult]
) -> None:
    proposed = {number: repository.run(seed, propose="true") for number, seed in enumerate("abc", 1)}
    for number, one in proposed.items():
        succeeded(one, "proposed")
        assert f"tested v{number} against nothing" in one.log
    assert repository.named() is None

    assert "current → v1, generation 1" in approve(1, proposed[1]).log
    assert "current → v3 (was v1), generation 2" in approve(3, proposed[3]).log
    late = approve(2, proposed[2])  # approved last, and began before
    assert f"current stays at v3: a later run has asked for another build: {RUN}/3" in warnings(late)[0]
    assert repository.named() == 3

    rollback(open_store(repository.registry), "embedder", "current", by="dana")
    succeeded(repository.run("c", propose="true"), "held")
    reverted = repository.run("b", propose="true")
    succeeded(reverted, "proposed")
    assert "tested v2 against v1" in reverted.log
    assert warnings(approve(5, reverted)) == []
    assert repository.named() == 2


def test_what_fails_its_test_is_not_proposed(repository: ActionRepository) -> None:
    rejected = repository.run("a", propose="true", test_command="exit 1")
    assert (rejected.outcome, rejected.outputs["promotion"], repository.named()) == ("failure", "rejected", None)
