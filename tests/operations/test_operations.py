"""examples/operations: GitLab's file, the shell recipe, and a Kubernetes Job that shares the models among pods."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from modeldrop.config import load_config_file
from modeldrop.publishing import plan as planning
from modeldrop.publishing.request import requests_of
from modeldrop.registry.channels import promote
from modeldrop.registry.versions import list_channels
from modeldrop.storage.write import open_store
from tests.deploy.example_files import KUBERNETES_VERSION
from tests.docs.command_line import check_command
from tests.helpers.publisher import Publisher, publish_built
from tests.helpers.workflow_linters import check_schema, shellcheck
from tests.servers.hub import HubServer

FOLDER = Path(__file__).resolve().parents[2] / "examples/operations"
MODELS = ("embedder", "ranker", "reranker")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a modeldrop.toml of three models that are published; `modeldrop` is on the PATH."""
    monkeypatch.chdir(tmp_path)
    text = '[registries.team]\nurl = "./models"\n'
    publisher = Publisher(tmp_path / "publisher")
    publisher.folder.mkdir()
    for seed, name in zip("abc", MODELS, strict=True):
        publisher.source(seed)
        text += f'[models.{name}]\nsource = "./publisher/source {seed}"\nvariants = ["fp32"]\n'
    (tmp_path / "modeldrop.toml").write_text(text)
    for request in requests_of(load_config_file()):
        planned = planning.plan(request)
        publish_built(planned, publisher.built(planned, request.model))
    command = tmp_path / "bin" / "modeldrop"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m modeldrop "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MODELDROP_REGISTRY", str(tmp_path / "models"))
    return tmp_path


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def container() -> dict[str, Any]:
    (job,) = yaml.safe_load_all((FOLDER / "kubernetes-job.yaml").read_text("utf-8"))
    kubernetes_validate.validate(job, KUBERNETES_VERSION, strict=True)
    assert job["spec"]["completionMode"] == "Indexed"
    (one,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "SHARDS", "value": str(job["spec"]["completions"])} in one["env"]
    return dict(one)


def test_the_pods_of_the_job_take_every_model_once(published: Path) -> None:
    pod = container()
    said = [run(*pod["command"], *pod["args"], SHARDS="2", JOB_COMPLETION_INDEX=str(index)) for index in range(2)]
    assert [one.returncode for one in said] == [0, 0], said
    taken = [re.findall(r"(?m)^(\w+) v1 .*unchanged", one.stdout) for one in said]
    assert taken == [["embedder", "reranker"], ["ranker"]]


def test_the_recipe_plans_publishes_and_looks_after_the_registry(published: Path) -> None:
    script = FOLDER / "ci.sh"
    assert shellcheck(script.read_text("utf-8")) == ""
    store = open_store(str(published / "models"))
    promote(store, "ranker", 1, "pr-17", by="dana")
    assert "ranker: unchanged" in run(script, "plan").stdout
    assert "ranker v1" in run(script, "publish", "2/3").stdout
    assert run(script, "prune").returncode == run(script, "doctor").returncode == 0
    assert run(script, "clean-up", "pr-17").stdout == "ranker@pr-17: removed, it named v1\n"
    assert list(list_channels(store, "ranker")) == ["current"]
    for wrong in ((), ("clean-up",), ("deploy",)):
        assert run(script, *wrong).returncode != 0
    assert "MODELDROP_SIGNING_KEY" in run(script, "renew").stderr


def test_gitlab_accepts_its_file_and_its_commands_parse() -> None:
    file = FOLDER / "gitlab.yml"
    assert check_schema("vendor.gitlab-ci", [file]) == ""
    document = yaml.safe_load(file.read_text("utf-8"))
    jobs = {name: job for name, job in document.items() if name.startswith("modeldrop-")}
    assert {"plan", "publish", "prune", "doctor", "renew", "clean-up"} == {
        name.removeprefix("modeldrop-") for name in jobs
    }
    for job in jobs.values():
        sign_in, command = job["script"]
        assert sign_in == document[".modeldrop-sign-in"]
        assert shellcheck(f"{sign_in}\n{command}\n") == ""
        check_command(shlex.split(command))
        assert set(job["extends"]) <= set(document)


def test_pins_are_raised_to_what_the_hub_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = yaml.safe_load((FOLDER.parent / "workflows/newer-commits.yml").read_text("utf-8"))
    (script,) = [step["run"] for step in workflow["jobs"]["look"]["steps"] if step.get("id") == "raise"]
    monkeypatch.chdir(tmp_path)
    with HubServer() as hub:
        repo = hub.add_repo("acme/m", {"config.json": b"{}"})
        old, new = repo.refs["main"], repo.commit({"config.json": b"[]"})
        text = f"[models.a]\nsource = \"acme/m@{{}}\"\n[models.b]\nsource = 'hf:acme/m@{{}}#onnx/model.onnx' # {old}\n"
        Path("modeldrop.toml").write_text(text.format(old, old) + '[models.c]\nsource = "acme/other@main"\n')
        output = {"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "output"), **hub.environment}
        for newer in ("true", "false"):
            done = run("bash", "-euo", "pipefail", "-c", script, **output)
            assert (done.returncode, done.stderr) == (0, "")
            assert Path("output").read_text().splitlines()[-1] == f"newer={newer}"
            assert Path("modeldrop.toml").read_text().startswith(text.format(new, new))
