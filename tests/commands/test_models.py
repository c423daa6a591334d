"""The models of modeldrop.toml on the command line: plan, matrix, publish, build and fetch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.config import load_config_file
from modeldrop.errors import RegistryError, UsageError, UserTestError
from modeldrop.export import pipeline
from modeldrop.format.manifest import Manifest, serialize_manifest
from modeldrop.model_settings import parse_shard
from modeldrop.publishing import plan as planning
from modeldrop.publishing.request import requests_of
from tests.helpers.builds import make_build
from tests.helpers.command_line import modeldrop, ran_here
from tests.helpers.publisher import Publisher, named, publish_built, why_rejected

if TYPE_CHECKING:
    from modeldrop.export.pipeline import CheckedRequest
    from modeldrop.export.request import BuildRequest

TEXT = """
[registries.team]
url = "./the models"

[models.embedder]
source = "./the publisher/source a"
[models.embedder.fetch]
variant = "fp32"

[models.reranker]
source = "./the publisher/source b"
channel = "staging"
test = 'test "$MODELDROP_MODEL" = reranker && test -n "$MODELDROP_NEW"'
variants = ["fp32"]
"""


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """A modeldrop.toml of two models in the current folder; their builds take no exporter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modeldrop.toml").write_text(TEXT)
    (tmp_path / "the publisher").mkdir()
    publisher = Publisher(tmp_path / "the publisher")
    for seed in "ab":
        publisher.source(seed)
    return publisher


def publish_all(publisher: Publisher, *names: str) -> None:
    """Publish the models of modeldrop.toml with made builds, as ``publish --all`` does with real ones."""
    for request in requests_of(load_config_file(), names):
        plan = planning.plan(request)
        publish_built(plan, publisher.built(plan, request.model) if plan.would_build else None)


def test_matrix(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = ran_here("matrix")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    registry = str(tmp_path / "the models")
    assert json.loads(ran.out)["include"] == [
        {"name": "embedder", "source": "./the publisher/source a", "registry": registry, "channel": "current"},
        {"name": "reranker", "source": "./the publisher/source b", "registry": registry, "channel": "staging"},
    ]
    ran = ran_here("matrix", "--only", "reranker")
    assert [row["name"] for row in json.loads(ran.out)["include"]] == ["reranker"]
    monkeypatch.setenv("MODELDROP_REGISTRY", "s3://acme-models")
    assert ran_here("matrix").json["include"][0]["registry"] == "s3://acme-models"
    ran = ran_here("matrix", "--only", "other")
    assert (ran.code, "Its models: embedder, reranker." in ran.err) == (2, True)


def test_machines_that_share_the_work_take_every_model_once(publisher: Publisher) -> None:
    parts = [ran_here("matrix", "--shard", f"{index}/3").json["include"] for index in (1, 2, 3)]
    assert [[row["name"] for row in part] for part in parts] == [["embedder"], ["reranker"], []]
    shared = [requests_of(load_config_file(), shard=parse_shard(f"{index}/2")) for index in (1, 2)]
    assert [[request.model for request in part] for part in shared] == [["embedder"], ["reranker"]]
    for wrong in ("0/2", "3/2", "1", "1/", "a/b", "1/2/3", "1/1000000000"):
        ran = ran_here("matrix", "--shard", wrong)
        assert (ran.code, "such as 3/8" in ran.err) == (2, True), wrong
    ran = ran_here("plan", "--shard", "1/2", "./source", "./models/embedder")
    assert (ran.code, "Give --all or --only with it." in ran.err) == (2, True)


def test_plan_publish_and_fetch_all(publisher: Publisher, tmp_path: Path) -> None:
    ran = ran_here("plan", "--all", "--json")
    assert ran.code == 0, ran.err
    assert [item["would_build"] for item in ran.json] == [True, True]
    publish_all(publisher)
    assert "embedder: would build nothing" in ran_here("publish", "--only", "embedder", "--dry-run").out
    assert [item["would_build"] for item in ran_here("plan", "--all", "--json").json] == [False, False]

    (tmp_path / "the models/reranker/staging").unlink()
    (tmp_path / "the models/reranker/.moves/staging/1.json").unlink()
    ran = modeldrop("publish", "--all", "--json")
    assert ran.code == 0, ran.err
    assert [(item["model"], item["built"], item["tested"]) for item in ran.json] == [
        ("embedder", False, None),
        ("reranker", False, True),
    ]

    ran = ran_here("fetch", "--all", "-d", "home", "--json")
    assert ran.code == 0, ran.err
    assert [(item["model"], item["variant"]) for item in ran.json] == [("embedder", "fp32"), ("reranker", "int8")]
    assert [path.name for path in Path("home/reranker").glob("staging*")] == ["staging"]
    ran = ran_here("fetch", "--all", "-d", "home", "--variant", "int8", "--json")
    assert [item["variant"] for item in ran.json] == ["int8", "int8"]


def test_a_model_whose_test_fails_keeps_no_other_from_being_published(publisher: Publisher, tmp_path: Path) -> None:
    publish_all(publisher, "reranker")
    text = (tmp_path / "modeldrop.toml").read_text()
    (tmp_path / "modeldrop.toml").write_text(text.replace('source a"', "source a\"\ntest = 'echo said; exit 9'"))
    with pytest.raises(UserTestError):
        publish_all(publisher, "embedder")
    ran = modeldrop("publish", "--all", "--json")
    assert ran.code == UserTestError.exit_code
    assert "modeldrop: embedder: embedder v1 in" in ran.err
    embedder, reranker = ran.json
    assert (embedder["version"], embedder["channel"]["rejected"], reranker["channel"]["after"]) == ("v1", True, "v1")
    assert "was rejected: its test ended with exit code 9" in embedder["error"]
    ran = ran_here("promote", "./the models/embedder@v1")
    assert (ran.code, "current → v1, generation 1\nv1 failed its test at 20" in ran.out) == (0, True)
    assert "(rejected)" in ran_here("ls", "./the models/embedder").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish"], "No SOURCE is named"),
        (["publish", "./x"], "Where is ./x to be published?"),
        (["publish", "--all", "--only", "embedder"], "--all and --only exclude each other"),
        (["publish", "--all", "./x", "./models/x"], "the source ./x cannot be given with them"),
        (["plan", "--only", "embedder", "--task", "x"], "--task cannot be given with them"),
        (["plan", "--only", "embeder"], "modeldrop.toml has no model 'embeder'"),
        (["build", "--only", "embedder", "--only", "reranker", "-o", "out"], "A folder holds the build of one model"),
        (["build", "-o", "out"], "No SOURCE is named"),
        (["fetch"], "No REFERENCE is named"),
        (["fetch", "--all", "./models/x"], "--all and references exclude each other"),
        (["publish", "--all", "--test", "echo 'x"], "The test is no shell command"),
        (["publish", "--all", "--test-timeout", "soon"], "--test-timeout 'soon' is not a duration"),
        (["publish", "--all", "--test-timeout", "0"], "time limit must be more than 0 seconds"),
    ],
)
def test_what_cannot_be_meant(publisher: Publisher, tmp_path: Path, arguments: list[str], said: str) -> None:
    ran = ran_here(*arguments)
    assert (ran.code, said in ran.err) == (UsageError.exit_code, True), ran.err
    assert not (tmp_path / "the models").exists()
    assert not (tmp_path / "out").exists()


def test_one_model_with_a_test_from_a_folder_that_holds_its_build(publisher: Publisher, tmp_path: Path) -> None:
    registry = str(tmp_path / "models")
    wanted = planning.plan(publisher.request("a", registry))
    folder = publisher.built(wanted)
    command = ["publish", wanted.request.source, f"{registry}/embedder", "--build-dir", str(folder), "--json"]
    ran = modeldrop(*command, "--test", "echo said by the test; exit 4")
    assert ran.code == UserTestError.exit_code, ran.err
    assert f"[5/6] build     kept as it is: {folder}\n[6/6] publish   v1" in ran.err
    assert "said by the test\n" in ran.err
    assert (ran.json["built"], ran.json["tested"], ran.json["channel"]["after"]) == (True, False, None)
    assert (named(registry), why_rejected(registry, 1)) == (None, "its test ended with exit code 4")


def test_a_build_is_kept_where_only_its_upload_fails(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(checked: CheckedRequest, output: Path, *_: object) -> Manifest:
        """The exporter takes seconds and a real model; all else here is real."""
        manifest = make_build(output)._replace(build_key=checked.request.key)
        (output / "manifest.json").write_bytes(serialize_manifest(manifest))
        return manifest

    def checked(request: BuildRequest) -> CheckedRequest:
        return pipeline.CheckedRequest(
            request=request, task="feature-extraction", architecture="bert", samples=(), golden=()
        )

    monkeypatch.setattr(pipeline, "check_request", checked)
    monkeypatch.setattr(pipeline, "build", export)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    from modeldrop.publishing.publish import publish

    registry = tmp_path / "models"
    registry.mkdir()
    (registry / "embedder").write_text("in the way")
    request = publisher.request("a", str(registry))
    with pytest.raises(RegistryError) as caught:
        publish(planning.plan(request), quiet=True)
    (kept,) = (tmp_path / "scratch").glob("modeldrop-*/build")
    assert f"add --build-dir {kept}" in caught.value.hint

    (registry / "embedder").unlink()
    monkeypatch.setattr(pipeline, "build", None)
    (outcome,) = publish(planning.plan(request), folder=kept, quiet=True)
    assert (outcome.how, named(str(registry))) == ("built", 1)

    monkeypatch.setattr(pipeline, "build", export)
    publish(planning.plan(replace(request, force=True)), quiet=True)
    assert [path.parent for path in (tmp_path / "scratch").glob("*/build")] == [kept.parent]
