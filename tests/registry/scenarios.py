"""Publishers that are killed, stopped or get no reply, and what must hold afterwards; on any kind of registry."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from modeldrop.errors import NotFoundError
from modeldrop.fetcher.fetch import fetch
from modeldrop.registry.channels import move_forward, promote, rollback
from modeldrop.registry.promotion import Asked
from modeldrop.registry.prune import ABANDON, PruneRules, prune
from modeldrop.registry.publish import Adopt, commit, find_build, read_build, stage
from modeldrop.registry.versions import claimed_numbers, get_channel, version_numbers
from modeldrop.storage.write import open_store
from tests.helpers import concurrent_publishers
from tests.helpers.builds import build_key, contents, finish, make_build, publish_folder, start
from tests.helpers.concurrent_publishers import race
from tests.servers.reply_dropping_proxy import ReplyDroppingProxy

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.format.channel import Channel
    from modeldrop.registry.versions import Version
    from modeldrop.storage.write.store import Store
    from tests.servers.interface import CloudServer

HOUR = 3600.0
LONG_AGO = Asked("2026-01-01T00:00:00Z")
WRITES = 1 + 5 + 1 + 1 + 1 + 1 + 1  # claim, files, report, bill of materials, record, manifest, channel


def publish_seed(store: Store, folder: Path, seed: str, model: str = "embedder") -> Version:
    """Publish the build ``seed`` and move ``current`` to it."""
    make_build(folder / f"build-{seed}", seed)
    version = publish_folder(store, model, folder / f"build-{seed}", adopt_seconds=1).version
    move_forward(store, model, version, "current", by="dana")
    return version


def abandoned_after(seconds: float, store: Store, model: str) -> list[int | None]:
    """Prune when so much time has passed; return the claims that were sealed as abandoned."""
    steps = prune(store, model, PruneRules(), now=time.time() + seconds, apply=True).steps
    assert all(step.outcome == "done" for step in steps), steps
    return [step.version for step in steps if step.action == ABANDON]


def kill_publishers_at_every_step(any_registry: str, tmp_path: Path, *, stride: int = 1) -> None:
    """At each of the last steps, of which each means something else, and at every ``stride``-th of those before."""
    last = 2 * WRITES - 4
    steps = [*range(1, last, stride), *range(last, 2 * WRITES + 1)]
    store = open_store(any_registry)
    results = race(
        concurrent_publishers.interrupted, len(steps), any_registry, tmp_path, ",".join(map(str, steps)), "SIGKILL"
    )
    assert results == [None] * len(steps)
    for step in steps:
        model = f"model-{step}"
        claimed, committed, moved = step > 1, step >= 2 * WRITES - 2, step >= 2 * WRITES
        if moved:
            assert fetch(f"{any_registry}/{model}", tmp_path / "home").version == 1
        else:
            with pytest.raises(NotFoundError):
                fetch(f"{any_registry}/{model}", tmp_path / "home")
        found = find_build(store, model, build_key(f"seed {step}"))
        assert (found is not None) == committed
        version = found or publish_seed(store, tmp_path, f"seed {step}", model)
        if found is not None:
            move_forward(store, model, found, "current", by="dana")
        assert version.number == (1 if committed or not claimed else 2)
        snapshot = fetch(f"{any_registry}/{model}", tmp_path / "home")
        assert snapshot.version == version.number
        abandoned = abandoned_after(25 * HOUR, store, model)
        burnt = [1] if claimed and not committed else []
        assert abandoned == burnt
        assert claimed_numbers(store, model) == [*burnt, version.number]
        assert version_numbers(store, model) == [version.number]
        left = {item.key for item in store.objects(f"{model}/v1/")} if burnt else set()
        assert left <= {f"{model}/v1/claim.json", f"{model}/v1/manifest.json"}


def stop_publishers_and_resume_them_later(any_registry: str, tmp_path: Path) -> None:
    """Stopped before the record, before the manifest and before the move; others go on, prune comes by."""
    steps = {"record": 2 * WRITES - 5, "manifest": 2 * WRITES - 3, "move": 2 * WRITES - 1}
    store = open_store(any_registry)
    sleeper = start(
        "import sys, tests.helpers.concurrent_publishers; tests.helpers.concurrent_publishers.main(*sys.argv[1:])",
        *("interrupted", len(steps), any_registry, tmp_path, ",".join(map(str, steps.values())), "SIGSTOP"),
    )
    children: list[psutil.Process] = []
    while [child.status() for child in children] != [psutil.STATUS_STOPPED] * len(steps):
        assert sleeper.poll() is None, sleeper.communicate()
        children = psutil.Process(sleeper.pid).children()
        time.sleep(0.05)
    for what, step in steps.items():
        model = f"model-{step}"
        for seed in (f"seed {step}", "newer"):
            publish_seed(store, tmp_path, seed, model)
        if what != "move":
            rollback(store, model, "current", by="dana")
        # An hour later nothing of it is abandoned yet; a day later it is.
        assert abandoned_after(HOUR, store, model) == []
        assert abandoned_after(25 * HOUR, store, model) == ([2] if what == "move" else [1])
    before = {step: one_line(store, f"model-{step}") for step in steps.values()}
    for child in children:
        child.resume()
    woken = dict(zip(steps, json.loads(finish(sleeper)), strict=True))
    assert "sealed before its upload was finished" in woken["manifest"]
    # The one stopped before its record finds the version that others made of the recipe meanwhile.
    assert woken["record"] == [2, True, False]
    assert woken["move"] == [1, False, False]
    for step, channel in before.items():
        assert one_line(store, f"model-{step}") == channel
        assert 1 not in version_numbers(store, f"model-{step}") or step == steps["move"]
        assert fetch(f"{any_registry}/model-{step}", tmp_path / "home").version == channel.version


def lose_the_reply_to_every_write(
    cloud: CloudServer, cloud_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReplyDroppingProxy(cloud.port) as proxy:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value.replace(f":{cloud.port}", f":{proxy.port}"))
        store = open_store(cloud_registry)
        for method in ("PUT", "POST"):
            proxy.drop(method, "", times=100)
        first = publish_seed(store, tmp_path, "a")
        second = publish_seed(store, tmp_path, "b")
        assert (first.number, second.number) == (1, 2)
        assert claimed_numbers(store, "embedder") == [1, 2]
        assert one_line(store).generation == 2
        moved = rollback(store, "embedder", "current", by="dana")
        assert (moved.moved, moved.after, moved.generation) == (True, 1, 3)
        moved = promote(store, "embedder", 2, "current", by="dana")
        assert (moved.moved, moved.after, moved.generation) == (True, 2, 4)
        assert one_line(store).generation == 4
        assert len(proxy.dropped) == 2 * WRITES + 2
        snapshot = fetch(f"{cloud_registry}/embedder", tmp_path / "home", variant="fp32")
        assert snapshot.version == 2
        assert snapshot.model_file.read_bytes() == contents("b")["onnx/model.onnx"]


def publish_after_a_rollback(any_registry: str, tmp_path: Path) -> None:
    store = open_store(any_registry)
    publish_seed(store, tmp_path, "a")
    version = publish_seed(store, tmp_path, "b")
    rollback(store, "embedder", "current", by="dana")
    unchanged = move_forward(store, "embedder", version, "current", by="dana")
    assert (unchanged.moved, unchanged.after) == (False, 1)

    make_build(tmp_path / "slow", "slow")
    slow = stage(store, "embedder", read_build(tmp_path / "slow"))
    publish_seed(store, tmp_path, "fast")
    late = commit(slow, Adopt.ANY).version
    assert (late.number, one_line(store).version) == (3, 4)
    assert not move_forward(store, "embedder", late, "current", by="dana", asked=LONG_AGO).moved
    rollback(store, "embedder", "current", by="dana")
    assert not move_forward(store, "embedder", late, "current", by="dana", asked=LONG_AGO).moved
    assert one_line(store).version == 1
    assert move_forward(store, "embedder", late, "current", by="dana").after == 3
    assert move_forward(store, "embedder", version, "current", by="dana").after == 2
    one_line(store)


def one_line(store: Store, model: str = "embedder") -> Channel:
    """The channel, whose moves must follow each other without a gap or a repetition."""
    channel = get_channel(store, model, "current")
    moves = channel.moves()
    assert [move.generation for move in moves] == list(range(channel.generation, channel.generation - len(moves), -1))
    assert len(moves) == channel.generation
    assert len({move.nonce for move in moves}) == len(moves)
    return channel
