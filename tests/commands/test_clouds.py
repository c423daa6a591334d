"""Every command on every kind of registry, as a user types it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.channels import move_forward
from modeldrop.storage.write import open_store
from tests.helpers.builds import contents, make_build, publish_folder
from tests.helpers.clouds import Servers, sign_in
from tests.helpers.command_line import answer, run_here

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def filled(any_registry: str, tmp_path: Path) -> str:
    """A registry that holds embedder v1 and v2 (current)."""
    store = open_store(any_registry)
    for seed in "ab":
        make_build(tmp_path / seed, seed)
        version = publish_folder(store, "embedder", tmp_path / seed).version
        move_forward(store, "embedder", version, "current", by="dana")
    return any_registry


def test_every_command_works_as_on_a_folder(filled: str, tmp_path: Path) -> None:
    model = f"{filled}/embedder"
    assert answer("ls", filled) == [{"model": "embedder", "versions": ["v1", "v2"], "channels": {"current": "v2"}}]
    assert [(item["version"], item["state"]) for item in answer("ls", model)] == [
        ("v2", "published"),
        ("v1", "published"),
    ]
    assert run_here("show", f"{model}@v1")[0] == 0
    assert "onnx/model.onnx" in run_here("diff", f"{model}@v1", f"{model}@v2")[1]

    (fetched,) = answer("fetch", model, "-d", tmp_path / "home")
    assert fetched["version"] == "v2"
    code, path, err = run_here("fetch", model, "-d", tmp_path / "home", "--variant", "fp32")
    assert code == 0, err
    assert (tmp_path / "home" / "embedder" / path.strip() / "onnx/model.onnx").read_bytes() == contents("b")[
        "onnx/model.onnx"
    ]

    assert answer("promote", f"{model}@v1", "--channel", "staging")["after"] == "v1"
    assert answer("rollback", model, "--why", "slower")["after"] == "v1"
    assert answer("promote", f"{model}@v2")["generation"] == 4
    assert [move["version"] for move in answer("history", model)][:3] == ["v2", "v1", "v2"]
    code, _, said = run_here("fetch", model, "-d", tmp_path / "home")
    assert (code, "embedder v2 int8: already there" in said) == (0, True)

    copied = answer("mirror", f"{model}@v1", tmp_path / "copy", "--channel", "current", "--quiet")
    assert (copied["version"], copied["copied"], copied["channel"]["moved"]) == ("v1", True, True)
    assert copied["digest"] == answer("show", f"{model}@v1")["digest"]
    assert answer("mirror", f"{model}@v1", tmp_path / "copy")["copied"] is False

    assert run_here("prune", filled)[0] == 0
    assert run_here("doctor", filled)[0] == 0
    code, _, err = run_here("fetch", f"{filled}/embeder", "-d", tmp_path / "home")
    assert code == 5, err
    code, _, err = run_here("promote", f"{model}@v9")
    assert (code, "has no version v9" in err) == (5, True)
    code, _, err = run_here("show", f"{filled}/embeder@v1")
    assert (code, "It holds: embedder." in err) == (5, True)


def test_a_version_goes_round_all_registries_unchanged(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clouds = [servers[name] for name in ("s3", "gcs", "azure")]
    sign_in(monkeypatch, *clouds)
    stops = [str(tmp_path / "start"), *(cloud.registry() for cloud in clouds), str(tmp_path / "end")]
    make_build(tmp_path / "build", "a")
    version = publish_folder(open_store(stops[0]), "embedder", tmp_path / "build").version
    for here, there in itertools.pairwise(stops):
        copied = answer("mirror", f"{here}/embedder@v1", there, "--channel", "current", "--quiet")
        assert (copied["digest"], copied["copied"]) == (version.digest, True)
    for path in ("manifest.json", "report.html", *contents("a")):
        one, other = (tmp_path / end / "embedder" / "v1" / path for end in ("start", "end"))
        assert one.read_bytes() == other.read_bytes()


def test_what_cannot_be_a_registry_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    for url, words in (
        ("s3://Acme/embedder@v1", "cannot be a bucket"),
        ("gs://a/embedder@v1", "cannot be a bucket"),
        ("az://acmestore/embedder@v1", "names no container"),
        ("https://models.acme.example/embedder@v1", "is read-only"),
    ):
        code, out, err = run_here("promote", url)
        assert (code, out) == (2, ""), err
        assert words in err
    code, _, err = run_here("mirror", tmp_path / "a" / "embedder", tmp_path / "a")
    assert (code, "both the source and the destination" in err) == (2, True)
