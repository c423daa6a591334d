"""The real action.yml on a pull request: what it would change, tested, commented and kept for the merge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.action.kept_builds import artifact_name
from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.format.manifest import serialize_manifest
from modeldrop.publishing.plan import Plan, plan
from tests.action.machines import USES, Machines, readable
from tests.helpers.encoder_builds import make_encoder
from tests.helpers.publisher import Publisher, named
from tests.runner.events import TOKEN, Event
from tests.servers.github_api import GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runner.results import StepResult


class Encoders(Publisher):
    """A publisher whose builds answer."""

    def built(self, wanted: Plan, seed: str = "a", name: str = "build") -> Path:
        folder = self.folder / f"{name} {wanted.build_request.key[:8]}"
        if not folder.exists():
            manifest = make_encoder(folder, seed)
            (folder / "manifest.json").write_bytes(
                serialize_manifest(manifest._replace(build_key=wanted.build_request.key))
            )
        return folder


class Repository:
    """A repository on a GitHub of its own, whose runs publish into one registry, each on a machine of its own."""

    def __init__(self, machines: Machines, folder: Path, github: GitHubServer) -> None:
        self.machines, self.github = machines, github
        self.publisher = Encoders(folder)
        self.registry = str(folder / "a registry")
        self.service = folder / "service"

    def run(self, seed: str, event: Event, *, given: bool = True, **inputs: str) -> StepResult:
        """A run; unless ``given``, it has no build of an earlier step."""
        request = self.publisher.request(seed, self.registry)
        job = self.machines.job(replace(event, server=self.github.url), service=self.service)
        build = str(self.publisher.built(plan(request), seed)) if given else ""
        fixed = {"model": request.source, "name": "embedder", "registry": self.registry, "phase": "publish"}
        shown = {"comment": "true", "upload-report": "true", "reuse-builds": "true"}
        own = {name.replace("_", "-"): value for name, value in inputs.items()}
        return job.uses(USES, fixed | shown | {"build-folder": build} | own)


@pytest.fixture
def repository(machines: Machines, tmp_path: Path) -> Iterator[Repository]:
    with GitHubServer(TOKEN, {"pull-requests": "write", "actions": "read"}) as server:
        yield Repository(machines, tmp_path, server)


def test_what_a_pull_request_shows_and_what_the_merge_takes(repository: Repository) -> None:
    """Compared, tested against the build, commented once; the merge publishes the bytes that were shown."""
    first = repository.run("a", Event())
    assert (first.outcome, first.outputs["version"]) == ("success", "v1"), first.log
    assert repository.github.comments == {}

    said = "testing ${MODELDROP_NEW_VERSION:-no version} against $MODELDROP_CURRENT_VERSION"
    test = f'echo "{said}"; test -f "$MODELDROP_NEW/onnx/model.onnx"'
    shown = repository.run("b", Event.pull_request(), test_command=test)
    assert shown.outcome == "success", shown.log
    assert "testing no version against v1" in shown.log
    summary = readable(shown.summary)
    assert "Compared with <code>current</code>, v1" in summary
    assert f"The answers that differ most, of {len(BUILT_IN)} texts" in summary
    assert "not compared" not in shown.log
    assert "[The whole report](https://github.com/acme/models/actions/runs/1/artifacts/1)" in shown.summary
    assert (repository.service / "artifacts" / "modeldrop.report.embedder" / "report.html").is_file()
    assert Path(shown.outputs["summary-file"]).read_text("utf-8") == shown.summary
    metrics = json.loads(shown.outputs["metrics"])
    assert (metrics["compared_with"], metrics["measured_together"]) == ("v1", True)
    assert metrics["variants"]["int8"]["deltas"]["latency_ms"]["batch_32"] is not None
    (comment,) = repository.github.comments[17]
    assert comment["body"] == f"<!-- modeldrop: embedder -->\n{shown.summary}"

    rejected = repository.run("b", Event.pull_request(), test_command="exit 3", upload_report="false")
    assert (rejected.outcome, rejected.exit_code) == ("failure", 18)
    assert "its test ended with exit code 3. Nothing was published" in rejected.errors[0].message
    (comment,) = repository.github.comments[17]
    assert "rejected by its test" in readable(comment["body"]).splitlines()[1]
    assert named(repository.registry) == 1

    key = plan(repository.publisher.request("b", repository.registry)).build_request.key
    kept = repository.service / "artifacts" / artifact_name("embedder", key)
    repository.github.artifact(kept.name, kept)
    merged = repository.run("b", Event(), given=False)
    assert merged.outcome == "success", merged.log
    assert "its build is taken, nothing is built" in merged.log
    assert (merged.outputs["version"], merged.outputs["promotion"]) == ("v2", "moved")
    assert Path(merged.outputs["checksums"]).read_text() == Path(shown.outputs["checksums"]).read_text()
    assert "Latencies of both were measured" in readable(merged.summary), "what the pull request found out is not lost"
    assert named(repository.registry) == 2
    for result in (shown, rejected, merged):
        assert TOKEN not in result.log + result.summary


def test_without_the_permission_it_says_so_and_goes_on(repository: Repository) -> None:
    repository.github.permissions = {}
    result = repository.run("a", Event.pull_request(), test_on="publish", test_command="exit 1", upload_report="auto")
    assert result.outcome == "success", result.log
    (warning,) = (one for one in result.annotations if one.level == "warning")
    assert warning.title == "modeldrop: no comment"
    assert "pull-requests: write" in warning.message
    assert "there is no channel of that name" in readable(result.summary)
    assert not (repository.service / "artifacts" / "modeldrop.report.embedder").exists()
