"""The real action.yml in two phases, and with a test of the user's: built in one job, published in others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modeldrop.format.channel import parse_channel
from tests.action.machines import TINY, USES, Machines, readable
from tests.runner.events import Event
from tests.runner.job import Job
from tests.runner.results import StepResult

INPUTS = {"model": TINY, "name": "embedder", "registry": "./registry", "variants": "fp32"}
PUBLISH = INPUTS | {"phase": "publish"}
UPLOAD, DOWNLOAD = "actions/upload-artifact@v7", "actions/download-artifact@v8"

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("tiny")]


def channel(registry: Path, name: str = "current") -> int | None:
    """The version that a channel names, or None."""
    file = registry / "embedder" / name
    return parse_channel(file.read_bytes()).version if file.exists() else None


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What GitHub keeps between jobs."""
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def planned(machines: Machines, tiny: str, service: Path) -> tuple[Job, StepResult]:
    job = machines.job(service=service)
    return job, job.uses(USES, INPUTS | {"phase": "plan"})


@pytest.fixture(scope="module")
def built(planned: tuple[Job, StepResult]) -> tuple[Job, StepResult]:
    """What phase: build left, also as an artifact."""
    job, _ = planned
    result = job.uses(USES, INPUTS | {"phase": "build"})
    uploaded = job.uses(UPLOAD, {"name": "build", "path": result.outputs.get("build-folder", "?")})
    assert uploaded.outcome == "success", result.log
    return job, result


@pytest.fixture
def other(machines: Machines, built: tuple[Job, StepResult], service: Path) -> Job:
    """Another job, on another machine, with the artifact."""
    return with_artifact(machines.job(service=service))


def with_artifact(job: Job) -> Job:
    assert job.uses(DOWNLOAD, {"name": "build", "path": "a build"}).outcome == "success"
    return job


def publish(job: Job, **inputs: str) -> StepResult:
    return job.uses(USES, PUBLISH | {"build-folder": "a build"} | {k.replace("_", "-"): v for k, v in inputs.items()})


def test_plan_tells_that_something_is_to_be_built(planned: tuple[Job, StepResult]) -> None:
    job, result = planned
    assert result.outcome == "success", result.log
    assert (result.outputs["version"], result.outputs["built"], result.outputs["promoted"]) == ("", "false", "false")
    assert not (job.workspace / "registry").exists()


def test_build_publishes_nothing(built: tuple[Job, StepResult]) -> None:
    job, result = built
    assert result.outcome == "success", result.log
    assert (result.outputs["version"], result.outputs["built"], result.outputs["promoted"]) == ("", "true", "false")
    assert Path(result.outputs["checksums"]).read_text("utf-8").endswith("  manifest.json\n")
    assert not (job.workspace / "registry").exists()


def test_publish_in_the_same_job_needs_no_build_folder(built: tuple[Job, StepResult]) -> None:
    job, build = built
    result = job.uses(USES, PUBLISH)
    assert result.outcome == "success", result.log
    assert (result.outputs["version"], result.outputs["promoted"]) == ("v1", "true")
    assert Path(result.outputs["checksums"]).read_text("utf-8") == Path(build.outputs["checksums"]).read_text("utf-8")
    assert channel(job.workspace / "registry") == 1


@pytest.mark.soak
def test_publish_in_another_job(other: Job) -> None:
    result = publish(other)
    assert result.outcome == "success", result.log
    assert (result.outputs["version"], result.outputs["promoted"]) == ("v1", "true")
    assert channel(other.workspace / "registry") == 1


def test_publish_refuses_the_build_of_another_recipe(other: Job) -> None:
    result = publish(other, variants="fp32, int8")
    assert result.outcome == "failure"
    assert len(result.errors) == 1
    assert "build" in result.errors[0].message
    assert not (other.workspace / "registry" / "embedder" / "current").exists()


def test_publish_refuses_a_build_that_was_changed(other: Job) -> None:
    model = other.workspace / "a build" / "onnx" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    result = publish(other)
    assert result.outcome == "failure"
    assert len(result.errors) == 1
    assert channel(other.workspace / "registry") is None


def test_on_another_branch_the_version_is_published_and_no_channel_moves(
    machines: Machines, built: tuple[Job, StepResult], service: Path
) -> None:
    job = with_artifact(machines.job(Event(ref="refs/heads/feature"), service=service))
    result = publish(job)
    assert result.outcome == "success", result.log
    assert (result.outputs["version"], result.outputs["promoted"]) == ("v1", "false")
    assert channel(job.workspace / "registry") is None
    assert "default branch" in readable(result.summary)


@pytest.mark.soak
def test_promote_overrides_the_branch(machines: Machines, built: tuple[Job, StepResult], service: Path) -> None:
    job = with_artifact(machines.job(Event(ref="refs/heads/feature"), service=service))
    assert publish(job, promote="true").outputs["promoted"] == "true"
    assert channel(job.workspace / "registry") == 1


@pytest.mark.soak
def test_promote_false_publishes_only(other: Job) -> None:
    result = publish(other, promote="false")
    assert (result.outcome, result.outputs["version"], result.outputs["promoted"]) == ("success", "v1", "false")
    assert channel(other.workspace / "registry") is None


def test_a_test_that_passes_sees_the_new_build(other: Job) -> None:
    command = 'test -f "$MODELDROP_NEW/onnx/model.onnx" && test -z "$MODELDROP_CURRENT" && echo seen by the test'
    result = publish(other, test_command=command)
    assert result.outcome == "success", result.log
    assert "seen by the test" in result.log
    assert result.outputs["promoted"] == "true"


def test_a_test_that_fails_publishes_without_promoting_for_good(other: Job) -> None:
    registry = other.workspace / "registry"
    failed = publish(other, test_command="echo not good enough; exit 3")
    assert failed.outcome == "failure"
    assert failed.exit_code == 18
    assert (failed.outputs["version"], failed.outputs["promoted"]) == ("v1", "false")
    assert len(failed.errors) == 1
    assert "test" in failed.errors[0].message
    assert "not good enough" in failed.log
    assert (registry / "embedder" / "v1" / "manifest.json").is_file()
    assert channel(registry) is None


def test_a_version_that_failed_is_never_promoted_by_a_later_run(
    machines: Machines, built: tuple[Job, StepResult], service: Path
) -> None:
    first = with_artifact(machines.job(service=service))
    assert publish(first, test_command="false").outcome == "failure"
    registry = first.workspace / "registry"
    later = machines.job().uses(USES, INPUTS | {"registry": str(registry)})
    assert later.outputs["version"] == "v1"
    assert later.outputs["promoted"] == "false"
    assert channel(registry) is None
    assert "test" in readable(later.summary)


@pytest.mark.soak
def test_several_registries(other: Job) -> None:
    result = publish(other, registry="./one\n./two")
    assert result.outcome == "success", result.log
    assert [channel(other.workspace / name) for name in ("one", "two")] == [1, 1]
    references = result.outputs["reference"].splitlines()
    assert [reference.partition("/embedder@v1@")[0] for reference in references] == [
        str(other.workspace / name) for name in ("one", "two")
    ]


def test_a_model_of_the_configuration(other: Job) -> None:
    (other.workspace / "modeldrop.toml").write_text(
        '[registries.local]\nurl = "./from the file"\n[models.embedder]\n'
        f'source = "{TINY}"\nvariants = ["fp32"]\nchannel = "staging"\n[models.second]\nsource = "{TINY}"\n'
    )
    inputs = {"config": "modeldrop.toml", "name": "embedder", "phase": "publish", "build-folder": "a build"}
    result = other.uses(USES, inputs)
    assert result.outcome == "success", result.log
    assert channel(other.workspace / "from the file", "staging") == 1
    assert [row["name"] for row in json.loads(result.outputs["matrix"])["include"]] == ["embedder", "second"]
