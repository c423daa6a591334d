"""The real action.yml on a folder: builds once, finds its work again, and knows what it may not do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from modeldrop.format.channel import parse_channel
from tests.action.machines import TINY, USES, Machines, readable
from tests.runner.events import TOKEN, Event
from tests.runner.job import Job
from tests.runner.results import StepResult

OUTPUTS = {
    "build-folder",
    "built",
    "checksums",
    "manifest-digest",
    "matrix",
    "previous-version",
    "promoted",
    "reference",
    "report",
    "version",
}
INPUTS = {"model": TINY, "name": "embedder", "registry": "./a registry", "variants": "fp32"}


def current(registry: Path, channel: str = "current") -> int:
    """The version that a channel names."""
    return parse_channel((registry / "embedder" / channel).read_bytes()).version


@pytest.fixture(scope="module")
def job(machines: Machines, tiny: str) -> Job:
    return machines.job()


@pytest.fixture(scope="module")
def registry(job: Job) -> Path:
    return job.workspace / "a registry"


@pytest.fixture(scope="module")
def first(job: Job) -> StepResult:
    """The first run of all, which builds: with the checkout's code, in processes of their own."""
    return job.uses(USES, INPUTS, {"MODELDROP_EXPORTER_PYTHON": sys.executable})


pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("tiny")]


def test_the_first_run_builds_and_promotes(first: StepResult, registry: Path) -> None:
    assert first.outcome == "success", first.log
    assert first.outputs.keys() >= OUTPUTS
    told = {name: first.outputs[name] for name in ("version", "built", "promoted", "previous-version")}
    assert told == {"version": "v1", "built": "true", "promoted": "true", "previous-version": ""}
    digest = first.outputs["manifest-digest"]
    assert first.outputs["reference"] == f"{registry}/embedder@v1@{digest}"
    assert Path(first.outputs["report"]).read_text("utf-8").startswith("<!DOCTYPE html>")
    assert Path(first.outputs["checksums"]).read_text("utf-8") == f"{digest.removeprefix('sha256:')}  manifest.json\n"
    assert [row["name"] for row in json.loads(first.outputs["matrix"])["include"]] == ["embedder"]
    assert current(registry) == 1
    assert first.errors == []


def test_its_summary_tells_what_a_person_wants_to_know(first: StepResult) -> None:
    for word in ("embedder", "v1", "fp32", " kB", "cosine_mean", "modeldrop fetch", "<details>"):
        assert word in readable(first.summary)
    assert "<script" not in readable(first.summary)


def test_the_second_run_finds_everything_done(first: StepResult, job: Job, registry: Path) -> None:
    result = job.uses(USES, INPUTS)
    assert result.outcome == "success", result.log
    told = {name: result.outputs[name] for name in ("version", "built", "promoted", "previous-version")}
    assert told == {"version": "v1", "built": "false", "promoted": "false", "previous-version": "v1"}
    for name in ("reference", "manifest-digest"):
        assert result.outputs[name] == first.outputs[name]
    assert result.outputs.keys() >= OUTPUTS
    assert Path(result.outputs["report"]).is_file()
    assert Path(result.outputs["checksums"]).read_text() == Path(first.outputs["checksums"]).read_text()
    assert "v1" in readable(result.summary)
    assert current(registry) == 1
    assert not [call for call in job.calls if call.action.startswith("actions/cache")][1:], "a cache for nothing"


def test_a_dry_run_tells_and_does_nothing(first: StepResult, job: Job, registry: Path) -> None:
    before = sorted(registry.rglob("*"))
    result = job.uses(USES, INPUTS | {"variants": "fp32, int8", "dry-run": "true", "summary": "false"})
    assert result.outcome == "success", result.log
    assert result.summary == ""
    assert result.outputs.keys() >= OUTPUTS
    assert (result.outputs["version"], result.outputs["built"], result.outputs["promoted"]) == ("", "false", "false")
    assert sorted(registry.rglob("*")) == before


def test_a_pull_request_with_a_channel_moves_that_channel_only(
    first: StepResult, machines: Machines, registry: Path
) -> None:
    job = machines.job(Event.pull_request())
    result = job.uses(USES, INPUTS | {"registry": str(registry), "channel": "pr-17"})
    assert result.outcome == "success", result.log
    assert (result.outputs["built"], result.outputs["promoted"], result.outputs["version"]) == ("false", "true", "v1")
    assert current(registry, "pr-17") == 1


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_a_pull_request_without_one_publishes_nothing(machines: Machines, event: str, first: StepResult) -> None:
    """Its first run builds all the same, and says what it would have published; the other only plans."""
    job = machines.job(Event.pull_request(name=event))
    phase = {"pull_request": "all", "pull_request_target": "plan"}[event]
    result = job.uses(USES, INPUTS | {"phase": phase})
    assert result.outcome == "success", result.log
    assert result.outputs["built"] == ("true" if phase == "all" else "false")
    assert (result.outputs["version"], result.outputs["promoted"]) == ("", "false")
    assert not (job.workspace / "a registry").exists()
    if phase == "all":
        assert "a pull request publishes nothing" in readable(result.summary)
        assert Path(result.outputs["report"]).is_file()
        assert (Path(result.outputs["build-folder"]) / "manifest.json").is_file()


def test_force_builds_again(first: StepResult, job: Job, registry: Path) -> None:
    result = job.uses(USES, INPUTS | {"force": "true"})
    assert result.outcome == "success", result.log
    told = {name: result.outputs[name] for name in ("version", "built", "promoted", "previous-version")}
    assert told == {"version": "v2", "built": "true", "promoted": "true", "previous-version": "v1"}
    assert current(registry) == 2


def test_no_token_is_written_anywhere(first: StepResult, job: Job) -> None:
    assert TOKEN not in first.log + first.summary + "".join(first.outputs.values())
