from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.cli import main
from modeldrop.format import keys
from modeldrop.format.records import Retirement, serialize_retirement
from modeldrop.registry.channels import promote
from modeldrop.storage.write import open_store
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import make_build, publish_build, publish_folder

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86400.0


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry ./registry holds embedder v1 to v4 (current), and reranker v1; all 60 days old."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "registry"
    for seed in "abcd":
        publish_build(folder, seed, channel=None)
    publish_build(folder, "e", model="reranker", variants=["fp32"])
    promote(FolderStore(str(folder)), "embedder", 4, "current", by="dana")
    age(folder, 60)
    return folder


def age(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def ripen(folder: Path) -> None:
    """Let the marks be two days old."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 2 * DAY))
    for path in folder.glob("*/v*/retired.json"):
        path.write_bytes(serialize_retirement(Retirement(at, "dana", "old")))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that succeeds; what it printed, without the blanks of its table."""

    def run(*arguments: str) -> str:
        code = main(arguments)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that fails with this code; what it said."""

    def run(code: int, *arguments: str) -> str:
        assert main(arguments) == code
        return capsys.readouterr().err

    return run


def words(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_dry_run_then_both_phases(registry: Path, said: Callable[..., str]) -> None:
    plan = words(said("prune", "./registry/embedder", "--keep", "2"))
    assert plan == [
        "model version would bytes why",
        "embedder v2 retire 341.1 kB not among the newest 2, older than 30d",
        "embedder v1 retire 341.1 kB not among the newest 2, older than 30d",
        "Would free 0 B; sealing what would be retired frees 682.2 kB more, by a run 24h later.",
        "Nothing was changed. To do it: the same with --yes.",
    ]
    assert not list(registry.rglob("retired.json"))
    done = words(said("prune", "./registry/embedder", "--keep", "2", "--yes"))
    assert done[0] == "model version did bytes why"
    assert done[3] == "Freed 0 B; sealing what was retired frees 682.2 kB more, by a run 24h later."
    waiting = words(said("prune", "./registry/embedder", "--keep", "2"))
    assert [line.split(" was retired at ")[0] for line in waiting[:2]] == ["embedder v1", "embedder v2"]
    assert waiting[2].endswith("registry: nothing to prune.")
    ripen(registry)
    done = words(said("prune", "./registry/embedder", "--keep", "2", "--yes"))
    assert done[1:] == [
        "embedder v1 seal and delete 341.1 kB old",
        "embedder v2 seal and delete 341.1 kB old",
        "Freed 682.2 kB.",
    ]


def test_ls_shows_retired_ones_and_hides_pruned_ones(registry: Path, said: Callable[..., str]) -> None:
    said("prune", "./registry/embedder", "--keep", "2", "--yes")

    def states(*more: str) -> list[tuple[str, str]]:
        return [
            (one["version"], one["state"]) for one in json.loads(said("ls", "./registry/embedder", "--json", *more))
        ]

    assert states() == [("v4", "published"), ("v3", "published"), ("v2", "retired"), ("v1", "retired")]
    assert said("ls", "./registry/embedder").count("(retired)") == 2
    ripen(registry)
    said("prune", "./registry/embedder", "--yes")
    assert states() == [("v4", "published"), ("v3", "published")]
    assert states("--all")[2:] == [("v2", "pruned"), ("v1", "pruned")]
    assert "pruned" in said("ls", "./registry/embedder", "--all")
    assert json.loads(said("ls", "./registry", "--json"))[0]["versions"] == ["v3", "v4"]


def test_all_models_of_a_registry(
    registry: Path, said: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = registry / "reranker/v7/claim.json"
    claim.parent.mkdir()
    claim.write_bytes((registry / "reranker/v1/claim.json").read_bytes())
    age(registry, 60)

    def actions(printed: str) -> list[tuple[str, str, str]]:
        models = json.loads(printed)
        return [(one["model"], step["action"], step["version"]) for one in models for step in one["steps"]]

    expected = [("embedder", "retire", "v2"), ("embedder", "retire", "v1"), ("reranker", "abandon", "v7")]
    assert actions(said("prune", "./registry", "--keep", "2", "--json")) == expected
    (registry / "notes").mkdir()
    (registry / "notes/todo").write_text("no channel, and none of our business")
    monkeypatch.setenv("MODELDROP_REGISTRY", "./registry")
    assert actions(said("prune", "--keep", "2", "--json")) == expected
    assert actions(said("prune", "reranker", "--keep", "2", "--json")) == expected[2:]
    # A model that cannot be pruned does not keep the others from it, and is not forgotten.
    (registry / "embedder/staging").write_text("{}")
    assert main(["prune", "--keep", "2", "--json", "--yes"]) == 4
    captured = capsys.readouterr()
    assert actions(captured.out) == expected[2:]
    assert "modeldrop: embedder: " in captured.err
    assert "It is not known what this channel names" in captured.err


def test_json_tells_all(registry: Path, said: Callable[..., str]) -> None:
    (one,) = json.loads(said("prune", "./registry/embedder", "--keep", "3", "--json", "--yes"))
    assert one == {
        "model": "embedder",
        "frees_now": 0,
        "frees_later": one["steps"][0]["size"],
        "steps": [
            {
                "action": "retire",
                "version": "v1",
                "size": 341088,
                "why": "not among the newest 3, older than 30d",
                "outcome": "done",
            }
        ],
        "kept": [],
    }


def test_what_was_not_done_is_said(registry: Path, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = FolderStore.create

    def create(self: FolderStore, key: str, data: bytes) -> None:
        before(self, key, data)
        if key.endswith("v1/retired.json"):
            promote(FolderStore(str(registry)), "embedder", 3, "staging", by="dana")
            move = {**json.loads((registry / "embedder/staging").read_text()), "version": "v1"}
            (registry / "embedder/pr-17").write_text(json.dumps(move))

    monkeypatch.setattr(FolderStore, "create", create)
    done = words(said("prune", "./registry/embedder", "--keep", "3", "--yes"))
    assert done[1] == "embedder v1 retire 341.1 kB NOT done: pr-17 names it"
    assert done[2] == "Freed 0 B; sealing what was retired frees 0 B more, by a run 24h later."


def test_unretire(registry: Path, said: Callable[..., str], refused: Callable[..., str]) -> None:
    said("prune", "./registry/embedder", "--keep", "2", "--yes")
    message = refused(17, "promote", "./registry/embedder@v1")
    command = message.split("To keep it: modeldrop ")[1].split(";")[0].split()
    assert command[0] == "prune"
    assert said(*command) == "v1 of embedder is no longer retired.\n"
    assert said("prune", "./registry/embedder", "--unretire", "v1") == "v1 of embedder was not retired.\n"
    assert "current → v1" in said("promote", "./registry/embedder@v1")
    assert "has no version v9" in refused(5, "prune", "./registry/embedder", "--unretire", "v9")
    assert "'1' is not a version" in refused(2, "prune", "./registry/embedder", "--unretire", "1")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--grace", "59m", "--grace 59m is too short"),
        ("--grace", "0s", "--grace 0s is too short"),
        ("--grace", "1 day", "--grace '1 day' is not a duration"),
        ("--older-than", "30", "--older-than '30' is not a duration"),
        ("--older-than", "-1d", "--older-than '-1d' is not a duration"),
        ("--keep", "-1", "--keep -1 is not a number of versions"),
    ],
)
def test_options_that_cannot_be_meant(
    registry: Path, refused: Callable[..., str], option: str, value: str, message: str
) -> None:
    assert message in refused(2, "prune", "./registry/embedder", f"{option}={value}")


def test_what_is_not_there(registry: Path, refused: Callable[..., str]) -> None:
    assert "neither a registry nor a model" in refused(5, "prune", "./registry/other")
    assert "No registry is named" in refused(2, "prune")


def test_prune_and_promote_on_every_cloud(
    cloud_registry: str, tmp_path: Path, said: Callable[..., str], refused: Callable[..., str]
) -> None:
    store: Any = open_store(cloud_registry)
    for seed in "ab":
        make_build(tmp_path / seed, seed)
        publish_folder(store, "embedder", tmp_path / seed)
    said("promote", f"{cloud_registry}/embedder@v2")
    store.create(keys.retired("embedder", 1), serialize_retirement(Retirement("2026-01-01T00:00:00Z", "dana", "old")))
    assert "v1 of embedder is retired" in refused(17, "promote", f"{cloud_registry}/embedder@v1", "--channel", "x")
    for what in (cloud_registry, f"{cloud_registry}/embedder"):
        assert "seal and delete" in said("prune", what)
    (one,) = json.loads(said("prune", f"{cloud_registry}/embedder", "--yes", "--json"))
    assert [(step["action"], step["version"], step["outcome"]) for step in one["steps"]] == [("seal", "v1", "done")]
    assert [one["version"] for one in json.loads(said("ls", f"{cloud_registry}/embedder", "--json"))] == ["v2"]
    assert "v1 of embedder was pruned on" in refused(5, "show", f"{cloud_registry}/embedder@v1")
    assert "was pruned on" in refused(5, "fetch", f"{cloud_registry}/embedder@v1", "-d", str(tmp_path / "home"))
