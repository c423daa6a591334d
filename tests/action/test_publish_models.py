"""The reusable workflow, its jobs executed one after the other on machines of their own, as GitHub would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from modeldrop.action.setup_command import parts_of
from modeldrop.format.channel import parse_channel
from modeldrop.trust.attestation import Builder, verify_attestation
from tests.action.machines import ROOT, Machines
from tests.helpers import sigstore_instance
from tests.runner.action_stubs import Call
from tests.runner.events import Event
from tests.runner.expressions import GitHub
from tests.runner.job import Job
from tests.runner.results import StepResult

WORKFLOW = ROOT / ".github/workflows/publish-models.yml"


@dataclass
class Run:
    """A run of the workflow: what its caller gives, and what its jobs have left so far."""

    machines: Machines
    tree: Mapping[str, Any]
    service: Path
    config: str
    inputs: dict[str, Any]
    event: Event = field(default_factory=Event)
    needs: dict[str, Any] = field(default_factory=dict)
    attested: list[str] = field(default_factory=list)

    def job(self, name: str, matrix: Mapping[str, Any] | None = None) -> tuple[Job, list[StepResult]]:
        """Run a job to its end."""
        job = self.machine(matrix)
        results = job.steps(self.steps(name))
        outputs = job.texts(self.tree["jobs"][name].get("outputs", {}))
        self.needs[name] = {"result": "failure" if job.failed else "success", "outputs": outputs}
        return job, results

    def machine(self, matrix: Mapping[str, Any] | None = None, secrets: Mapping[str, str] | None = None) -> Job:
        contexts = {"matrix": dict(matrix or {}), "needs": self.needs, "secrets": dict(secrets or {})}
        job = self.machines.job(self.event, service=self.service, inputs=self.inputs, contexts=contexts)
        (job.workspace / "modeldrop.toml").write_text(self.config, "utf-8")
        return job

    def steps(self, name: str) -> list[dict[str, Any]]:
        return list(self.tree["jobs"][name]["steps"])

    def outputs(self, name: str) -> dict[str, str]:
        return dict(self.needs[name]["outputs"])


@pytest.fixture(scope="module")
def tree(github: GitHub) -> Mapping[str, Any]:
    parsed = github.workflow(WORKFLOW, ROOT)
    assert parsed.errors == ()
    return parsed.tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("publish models")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    """Where the file with the models says it is."""
    from tests.helpers import checkpoints

    (folder / "checkpoint").mkdir()
    return checkpoints.bert(folder / "checkpoint")


def start(machines: Machines, tree: Mapping[str, Any], folder: Path, event: Event | None = None, **given: Any) -> Run:
    """A run whose caller gives these inputs, and else the defaults."""
    # Read by a plain reader of YAML, for which the key "on" is true.
    declared = yaml.safe_load(WORKFLOW.read_text("utf-8"))[True]["workflow_call"]["inputs"]
    inputs = {name: value["default"] for name, value in declared.items()}
    inputs |= {name.replace("_", "-"): value for name, value in given.items()}
    config = (
        f'[registries.local]\nurl = "{folder}/registry"\n'
        f'[models.one]\nsource = "{folder}/checkpoint"\nvariants = ["fp32"]\nchannel = "stable"\n'
        f'[models.two]\nsource = "{folder}/checkpoint"\nvariants = ["int8"]\n'
    )
    return Run(
        machines=machines, tree=tree, service=folder / "service", config=config, inputs=inputs, event=event or Event()
    )


def named(folder: Path, channel: str) -> int | None:
    file = folder / "registry" / "one" / channel
    return parse_channel(file.read_bytes()).version if file.exists() else None


@pytest.mark.parametrize(
    ("event", "given", "attest"),
    [
        (Event(), {}, "true"),
        (Event.pull_request(), {"attest": "false"}, "false"),
        (Event(private=True), {}, "false"),
        (Event(private=True), {"attest": "true"}, "true"),
        (Event(server="https://github.acme.example"), {}, "false"),
    ],
)
def test_whether_to_attest_is_decided_once(
    machines: Machines, tree: Mapping[str, Any], folder: Path, event: Event, given: dict[str, Any], attest: str
) -> None:
    result = decide(start(machines, tree, folder, event, **given))
    assert result.outcome == "success", result.log
    assert result.outputs == {"attest": attest}


def test_a_word_that_is_not_allowed_is_refused(machines: Machines, tree: Mapping[str, Any], folder: Path) -> None:
    result = decide(start(machines, tree, folder, attest='yes"\n::set-output name=x::y\n$(touch canary)'))
    assert result.outcome == "failure"
    assert [error.message.endswith("auto, true or false.") for error in result.errors] == [True]
    assert set(result.outputs) == set()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gpu", "gpu"),
        ('["self-hosted", "big"]', ["self-hosted", "big"]),
        ('{"one": ["self-hosted", "big"], "*": "gpu"}', ["self-hosted", "big"]),
        ('{"two": "huge", "*": "gpu"}', "gpu"),
        ('{"two": "huge"}', "ubuntu-24.04"),
    ],
)
def test_every_model_may_have_a_runner_of_its_own(
    machines: Machines, tree: Mapping[str, Any], folder: Path, given: str, expected: Any
) -> None:
    run = start(machines, tree, folder, runs_on=given)
    step = next(step for step in run.steps("models") if step["id"] == "runners")
    result = run.machine().step({**step, "env": {**step["env"], "MATRIX": '{"include": [{"name": "one"}]}'}})
    assert json.loads(result.outputs["matrix"]) == {"include": [{"name": "one", "runs-on": expected}]}
    assert tree["jobs"]["publish"]["runs-on"] == {"$": "matrix.runs-on"}


def test_no_publish_is_dropped(github: GitHub, tree: Mapping[str, Any]) -> None:
    """All wait for their turn; those of a pull request, which runs main's code too, for those of its own alone."""
    publish = tree["jobs"]["publish"]["concurrency"]
    assert (publish["queue"], publish["cancel-in-progress"]) == ("max", False)
    pull_requests = [Event.pull_request(name=name) for name in ("pull_request", "pull_request_target")]
    events = (Event(), Event(ref="refs/heads/feature"), *pull_requests)
    groups = [
        github.evaluate(publish["group"]["$"], {"github": event.context(), "matrix": {"name": "one"}}, {}).text
        for event in events
    ]
    assert groups[:2] == ["modeldrop-publish-one-refs/heads/main", "modeldrop-publish-one-refs/heads/feature"]
    assert set(groups[2:]) == {"modeldrop-publish-one-17"}
    waiting = [job for job in tree["jobs"].values() if "environment" in job]
    assert len(waiting) == 1
    assert "concurrency" not in waiting[0]


def test_a_service_without_oidc_is_signed_in_to_with_a_key(
    machines: Machines, tree: Mapping[str, Any], folder: Path
) -> None:
    run = start(machines, tree, folder, aws_region="auto")
    sign_in = next(step for step in run.steps("publish") if "sign-in" in step.get("uses", ""))
    keys = {"s3-access-key-id": "the-key", "s3-secret-access-key": "a/+secret=1"}
    ask = {"run": "printf '%s ' $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_REGION"}
    for secrets, said in ((keys, "the-key a/+secret=1 auto "), ({}, "")):
        job = run.machine(secrets=secrets)
        job.step(sign_in)
        assert job.step(ask).log.strip() == said.strip()
    job = run.machine(secrets={**keys, "s3-secret-access-key": "two\nPATH=/evil"})
    job.step(sign_in)
    assert job.failed


@pytest.mark.parametrize(
    ("event", "given", "role"),
    [
        (Event(), {}, "publisher"),
        (Event.pull_request(), {}, "planner"),
        (Event.pull_request(), {"aws_planner_role": "", "azure_planner_client_id": ""}, "publisher"),
        (Event.pull_request(), {"channel": "pr-17"}, "publisher"),
        (Event.pull_request(name="pull_request_target"), {}, "publisher"),  # its token is the branch's
    ],
)
def test_a_pull_request_that_publishes_nothing_signs_in_to_read(
    machines: Machines, tree: Mapping[str, Any], folder: Path, event: Event, given: dict[str, str], role: str
) -> None:
    roles = {"aws_role": "publisher", "aws_planner_role": "planner"}
    clients = {"azure_client_id": "publisher", "azure_planner_client_id": "planner"}
    run = start(machines, tree, folder, event, **{**roles, **clients, **given})
    signs_in = [step for step in run.steps("publish") if "sign-in" in step.get("uses", "")]
    asked = [run.machine().texts(step["with"]) for step in signs_in]
    assert [(one["aws-role"], one["azure-client-id"]) for one in asked] == [(role, role)] * 2


def test_tests_find_the_packages_that_they_import(machines: Machines, tree: Mapping[str, Any], folder: Path) -> None:
    run = start(machines, tree, folder, test_requirements="checks/requirements.txt")
    job = run.machine()
    (job.workspace / "checks").mkdir()
    (job.workspace / "checks/requirements.txt").write_text("blake3\n")
    steps = [step for step in run.steps("publish") if "test-requirements" in str(step.get("if"))]
    results = job.steps([*steps, {"run": "python -c 'import blake3; print(blake3.__name__)'"}])
    assert results[-1].log == "blake3\n", "".join(result.log for result in results)


def decide(run: Run) -> StepResult:
    [step] = [step for step in run.steps("models") if step["id"] == "decide"]
    return run.machine().step(step)


@pytest.mark.parametrize(
    ("registry", "parts"),
    [
        ("", []),
        ("./models\n/models", []),
        ("s3://acme-models", ["s3"]),
        ("gs://a/x@v3@sha256:00\naz://b/c/x@v1\ngs://d", ["gcs", "azure"]),
        ("https://acme.example/s3", []),
    ],
)
def test_setup_installs_the_sdks_of_the_registries_named(registry: str, parts: list[str]) -> None:
    assert parts_of(registry) == parts
    assert parts_of(registry, attestations=True) == [*parts, "sigstore"]


def test_only_models_of_the_file_can_be_asked_for(machines: Machines, tree: Mapping[str, Any], folder: Path) -> None:
    job, results = start(machines, tree, folder, only="one\nthree").job("models")
    assert job.failed
    [error] = [error for result in results for error in result.errors]
    assert "modeldrop.toml has no model 'three'" in error.message
    assert "one, two" in error.message


@pytest.fixture(scope="module")
def approved(machines: Machines, tree: Mapping[str, Any], folder: Path, checkpoint: Path) -> Run:
    """A whole run, with an environment in which somebody approves, as far as to the last job."""
    run = start(machines, tree, folder, only="\none\n", environment="production")
    job, results = run.job("models")
    assert not job.failed, results[-1].log
    for row in json.loads(run.outputs("models")["matrix"])["include"]:
        job, results = run.job("publish", row)
        assert not job.failed, "".join(result.log for result in results)
    job, results = run.job("attest")
    assert not job.failed, results[-1].log
    run.attested = [
        (job.workspace / call.inputs["subject-checksums"]).read_text() for call in job.calls if is_attestation(call)
    ]
    return run


def is_attestation(call: Call) -> bool:
    return call.action == "actions/attest"


@pytest.mark.heavy
def test_the_matrix_has_the_models_asked_for(approved: Run) -> None:
    [row] = json.loads(approved.outputs("models")["matrix"])["include"]
    assert (row["name"], row["channel"]) == ("one", "stable")


@pytest.mark.heavy
def test_a_version_is_published_attested_and_proposed(approved: Run, folder: Path) -> None:
    [result] = json.loads(approved.outputs("attest")["results"])
    assert (result["name"], result["version"], result["built"], result["promoted"]) == ("one", "v1", "true", "false")
    assert result["promotion"] == "proposed"
    reference = f"{folder}/registry/one@v1@{result['manifest-digest']}"
    assert json.loads(approved.outputs("attest")["promote"]) == [
        {"name": "one", "channel": "stable", "reference": reference, "asked-at": result["asked-at"]}
    ]
    [checksums] = approved.attested
    assert checksums.split()[0] == result["manifest-digest"].removeprefix("sha256:")


@pytest.mark.heavy
def test_the_attestation_is_stored_beside_the_version(approved: Run, folder: Path, tmp_path: Path) -> None:
    [result] = json.loads(approved.outputs("attest")["results"])
    [row] = json.loads(approved.outputs("attest")["attested"])
    assert row == {"name": "one", "reference": result["reference"]}
    job, results = approved.job("store", row)
    assert not job.failed, results[-1].log
    root = sigstore_instance.write_trusted_root(tmp_path / "trusted_root.json")
    stored = (folder / "registry/one/v1/attestation.sigstore.json").read_bytes()
    digest, where = result["manifest-digest"], "here"
    assert verify_attestation(stored, Builder("acme/models"), digest=digest, where=where, trusted_root=str(root))
    job, results = approved.job("store", row)  # a re-run
    assert not job.failed, results[-1].log


@pytest.mark.heavy
def test_what_was_approved_is_promoted_and_an_unchanged_run_proposes_nothing(
    approved: Run, machines: Machines, tree: Mapping[str, Any], folder: Path
) -> None:
    assert named(folder, "stable") is None
    [row] = json.loads(approved.outputs("attest")["promote"])
    approved.needs["models"]["outputs"]["attest"] = "false"  # so that nothing is installed that verifies them
    job, results = approved.job("promote", row)
    assert not job.failed, results[-1].log
    assert named(folder, "stable") == 1

    again = start(machines, tree, folder, only="one", environment="production")
    again.job("models")
    again.job("publish", row | {"channel": "stable"})
    job, _ = again.job("attest")
    assert again.needs["attest"]["result"] == "success"
    assert json.loads(again.outputs("attest")["promote"]) == []
    [result] = json.loads(again.outputs("attest")["results"])
    assert (result["version"], result["built"], result["previous-version"]) == ("v1", "false", "v1")
    assert not any(is_attestation(call) for call in job.calls)


def test_one_summary_tells_of_all_models(machines: Machines, tree: Mapping[str, Any], tmp_path: Path) -> None:
    """Also of those that have left nothing, because they failed; and that all have is no failure of this job."""
    run = start(machines, tree, tmp_path)
    matrix = json.dumps({"include": [{"name": "one"}, {"name": "two"}]})
    run.needs["models"] = {"result": "success", "outputs": {"attest": "true", "matrix": matrix}}
    job, results = run.job("attest")
    assert not job.failed, results[-1].log
    assert (run.outputs("attest")["results"], run.outputs("attest")["promote"]) == ("[]", "[]")
    assert run.outputs("attest")["attested"] == "[]"
    told = {"version": "v2", "built": "false", "would-build": "false", "promotion": "held", "previous-version": "v1"}
    result = {"name": "two", "channel": "stable", "outputs": told | {"reference": "", "asked-at": ""}}
    kept = run.service / "artifacts/modeldrop-two/two"
    kept.mkdir(parents=True)
    (kept / "result.json").write_text(json.dumps(result))
    job, results = run.job("attest")
    assert "".join(result.summary for result in results).splitlines()[-2:] == [
        "| one | – | **failed**: see its job | – | – |",
        "| two | v2 | unchanged | stable: held | v1 |",
    ]
