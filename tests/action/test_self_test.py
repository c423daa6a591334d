"""The self-test that GitHub runs, run here: what it expects of the action is what the action does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.action.machines import ROOT, Machines
from tests.runner.events import Event
from tests.runner.expressions import GitHub

WORKFLOW = ROOT / ".github/workflows/action-self-test.yml"

pytestmark = [pytest.mark.heavy, pytest.mark.soak, pytest.mark.usefixtures("tiny")]


@pytest.mark.parametrize("name", ["works", "refuses"])
@pytest.mark.parametrize("event", [Event(), Event.pull_request()], ids=["push", "pull request"])
def test_the_job_passes(machines: Machines, github: GitHub, checkout: Path, tiny: str, name: str, event: Event) -> None:
    parsed = github.workflow(WORKFLOW, ROOT)
    assert parsed.errors == ()
    job = machines.job(event, env={"MODEL": tiny})  # in place of a model of the Hub itself
    shutil.copytree(checkout, job.workspace, dirs_exist_ok=True)
    results = job.steps(parsed.tree["jobs"][name]["steps"])
    assert not job.failed, "\n".join(f"{result.name}: {result.conclusion}\n{result.log}" for result in results)
    assert {result.conclusion for result in results} == {"success"}
