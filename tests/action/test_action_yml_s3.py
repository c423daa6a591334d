"""The real action.yml and a bucket: signed in, not signed in, and with secrets that nobody may read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modeldrop.export.environments.locks import locked_platform
from tests.action.machines import HUB_TOKEN, PIP_LOG, TINY, USES, Machines, readable
from tests.helpers.clouds import Servers
from tests.runner.events import Event
from tests.runner.job import Job
from tests.runner.results import StepResult
from tests.servers.s3 import SECRET, S3Server
from tests.servers.wheels import WheelServer

INPUTS = {"model": TINY, "name": "embedder", "variants": "fp32"}
OWN_SECRET = "a-token-of-the-users-own"
HEAVY = ("torch", "transformers", "optimum", "onnxruntime", "onnx", "numpy")
LIMIT = 30 * 10**6


@pytest.fixture(scope="module")
def s3(servers: Servers) -> S3Server:
    server = servers["s3"]
    assert isinstance(server, S3Server)
    return server


@pytest.fixture(scope="module")
def registry(s3: S3Server) -> str:
    return s3.registry()


@pytest.fixture(scope="module")
def job(machines: Machines, tiny: str, s3: S3Server) -> Job:
    return new_job(machines, s3)


def new_job(machines: Machines, s3: S3Server) -> Job:
    machine = {**s3.environment, "HF_TOKEN": HUB_TOKEN, "MY_API_TOKEN": OWN_SECRET}
    return machines.job(machine=machine, fresh=True)


def installed(job: Job) -> tuple[Path, set[str]]:
    """The environment that plans, and the names of what is in it."""
    (environment,) = (path.parent for path in job.temp.glob("modeldrop/plan-*/pyvenv.cfg"))
    (packages,) = environment.glob("lib/python3*/site-packages")
    return environment, {path.name for path in packages.iterdir()}


@pytest.fixture(scope="module")
def planned(job: Job, registry: str) -> StepResult:
    return job.uses(USES, INPUTS | {"registry": registry, "dry-run": "true"})


@pytest.fixture(scope="module")
def first(job: Job, planned: StepResult, registry: str) -> StepResult:
    return job.uses(USES, INPUTS | {"registry": registry})


def test_planning_installs_what_looks(planned: StepResult, job: Job, wheels: WheelServer) -> None:
    assert planned.outcome == "success", planned.log
    assert planned.outputs["would-build"] == "true"
    assert any("/simple/obstore" in path for path in wheels.requests), "PIP_INDEX_URL is honoured"
    assert (job.folder / PIP_LOG).is_file(), "what tells other tests that pip was never called"
    _, names = installed(job)
    assert not names & {"boto3", "huggingface_hub", *HEAVY}


@pytest.mark.heavy
def test_the_first_run_builds_and_the_second_needs_hardly_anything(
    first: StepResult, job: Job, machines: Machines, s3: S3Server, registry: str
) -> None:
    assert first.outcome == "success", first.log
    _, names = installed(job)
    assert {"boto3", "huggingface_hub"} <= names
    assert not names & set(HEAVY)
    assert first.outputs["reference"].startswith(f"{registry}/embedder@v1@sha256:")
    assert (first.outputs["built"], first.outputs["promoted"]) == ("true", "true")
    another = new_job(machines, s3)
    second = another.uses(USES, INPUTS | {"registry": registry})
    assert second.outcome == "success", second.log
    assert (second.outputs["built"], second.outputs["promotion"]) == ("false", "unchanged")
    assert second.outputs["reference"] == first.outputs["reference"]
    environment, names = installed(another)
    assert not names & {"boto3", "huggingface_hub", "pip"}
    if locked_platform():  # elsewhere pip also brings what actions-toolkit needs for a module that is not used
        files = [path for path in environment.rglob("*") if path.is_file() and not path.is_symlink()]
        assert sum(path.stat().st_size for path in files) <= LIMIT


@pytest.mark.heavy
def test_secrets_reach_nobody(first: StepResult, planned: StepResult, job: Job) -> None:
    log = "\n".join(line for line in (planned.log + first.log).splitlines() if not line.startswith("::add-mask::"))
    written = log + planned.summary + first.summary + json.dumps([planned.outputs, first.outputs])
    written += "".join(found.message for found in (*planned.annotations, *first.annotations))
    written += Path(first.outputs["report"]).read_text("utf-8")
    for secret in (SECRET, HUB_TOKEN, OWN_SECRET):
        assert secret not in written
        assert job.mask(f"later: {secret}") == "later: ***", "the runner was told"


def without_keys(s3: S3Server, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in s3.environment.items() if "KEY" not in name and "TOKEN" not in name}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true", **more}


def test_without_credentials_the_missing_permission_is_named(machines: Machines, s3: S3Server, job: Job) -> None:
    result = machines.job(machine=without_keys(s3)).uses(USES, INPUTS | {"registry": s3.registry()})
    assert result.outcome == "failure"
    assert result.exit_code == 12
    assert len(result.errors) == 1
    assert "permissions: id-token: write" in result.errors[0].message
    assert "aws-actions/configure-aws-credentials" in result.errors[0].message
    assert set(result.outputs.values()) >= {"", "false"}
    assert "id-token: write" in readable(result.summary)


def test_where_the_permission_is_there_the_step_is_named(machines: Machines, s3: S3Server, job: Job) -> None:
    machine = without_keys(s3, ACTIONS_ID_TOKEN_REQUEST_URL="https://pipelines.example/token")
    result = machines.job(machine=machine).uses(USES, INPUTS | {"registry": s3.registry()})
    assert len(result.errors) == 1
    assert "no step before this one did" in result.errors[0].message


def test_a_fork_is_told_that_it_cannot_sign_in(machines: Machines, s3: S3Server, job: Job) -> None:
    fork = machines.job(Event.pull_request(fork=True), machine=without_keys(s3))
    result = fork.uses(USES, INPUTS | {"registry": s3.registry()})
    assert result.outcome == "failure"
    assert len(result.errors) == 1
    assert "from a fork" in result.errors[0].message
