from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import FidelityError, HookError, UsageError
from modeldrop.fetcher.fetch import Fetcher, fetch
from modeldrop.fetcher.leases import user_of
from modeldrop.fetcher.notes import read_quarantine, read_state
from modeldrop.fetcher.status import read_status
from modeldrop.fetcher.watch.follower import Receiver
from modeldrop.format.manifest import serialize_manifest
from tests.fetcher.small_versions import make_version, weights
from tests.fetcher.watch.watch_setup import WatchSetup, version
from tests.helpers.builds import describe, make_build
from tests.helpers.clouds import sign_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.fetcher.resolve import ResolvedVersion
    from modeldrop.fetcher.snapshot import LocalSnapshot, Snapshot


def test_moves_are_followed_in_every_kind_of_registry(any_registry: str, tmp_path: Path) -> None:
    watch_setup = WatchSetup(any_registry, tmp_path)
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    assert follower.poll()
    watch_setup.publish("b")
    assert follower.poll()
    assert follower.poll()
    watch_setup.promote(1)
    assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1", "v1 to v2", "v2 to v1"]
    assert watch_setup.app.names == ["moved", "changed"] * 3
    assert (version(follower), watch_setup.link()) == (1, 1)
    assert follower.snapshot is not None
    assert fetch(f"{any_registry}/embedder", watch_setup.home, on_unavailable="fail").path == follower.snapshot.path
    assert follower.note.error == ""


def test_one_conditional_request_per_look(servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = servers["s3"]
    sign_in(monkeypatch, server)
    watch_setup = WatchSetup(server.registry(), tmp_path)
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    server.reset()
    for _ in range(5):
        assert follower.poll()
    requests = server.requests()
    assert [(request.method, request.path.rpartition("/")[2]) for request in requests] == [("GET", "current")] * 5
    assert all(request.headers["if-none-match"] for request in requests)
    watch_setup.publish("b")
    server.reset()
    assert follower.poll()
    paths = [request.path for request in server.requests()]
    assert [path.rpartition("/")[2] for path in paths].count("current") == 1
    assert version(follower) == 2


def test_what_fails_is_quarantined_until_the_channel_moves(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    first = follower.snapshot
    before = read_state(watch_setup.model, "current")
    watch_setup.app.bad.add(2)
    watch_setup.publish("b")
    for _ in range(3):
        assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1", "v1 to v2", "back from v2 to v1"]
    assert follower.snapshot is first
    assert watch_setup.link() == 1
    assert read_state(watch_setup.model, "current") == before
    held = read_quarantine(watch_setup.model, "current")
    assert held is not None
    assert (held.version, held.generation) == (2, 2)
    assert held.reason == "v2 does not load, password=[redacted]."
    assert follower.refused == held
    assert json.loads((watch_setup.model / ".quarantine/current.json").read_text())["version"] == 2
    assert watch_setup.app.names[2:] == ["moved", "quarantined", "returned"]
    assert "hunter2" not in repr(watch_setup.app.events)
    watch_setup.app.bad.clear()
    assert follower.poll()
    assert version(follower) == 1
    watch_setup.publish("c")
    assert follower.poll()
    assert (version(follower), watch_setup.link()) == (3, 3)
    assert read_quarantine(watch_setup.model, "current") is None
    assert follower.refused is None


def test_the_same_version_is_tried_again_after_another_move(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    watch_setup.app.bad.add(2)
    watch_setup.publish("b")
    assert follower.poll()
    watch_setup.promote(1)
    assert follower.poll()
    assert watch_setup.app.log[-1] == "back from v2 to v1"  # v1 is in use already: nobody is told
    assert read_quarantine(watch_setup.model, "current") is None
    assert follower.snapshot is not None
    assert follower.snapshot.generation == 3
    watch_setup.app.bad.clear()
    watch_setup.promote(2)
    assert follower.poll()
    assert (version(follower), watch_setup.link()) == (2, 2)


def test_a_quarantine_outlives_the_process(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    watch_setup.app.bad.add(2)
    watch_setup.publish("b")
    assert follower.poll()
    follower.release()
    watch_setup.app.log.clear()
    again = watch_setup.follower()
    assert again.poll()
    assert again.poll()
    assert watch_setup.app.log == ["nothing to v1"]
    assert (version(again), watch_setup.link()) == (1, 1)
    assert again.refused is not None


def test_a_first_version_that_is_not_taken_is_told_again(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    watch_setup.app.bad.add(1)
    follower = watch_setup.follower()
    assert follower.poll()
    assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1"] * 2
    assert watch_setup.app.names == ["moved", "hook-failed"]  # once: it is the same reason
    assert follower.snapshot is None
    assert follower.note.refusal == "v1 does not load, password=[redacted]."
    assert watch_setup.link() == 1  # a program that starts later finds it
    watch_setup.app.bad.clear()
    assert follower.poll()
    assert version(follower) == 1
    assert follower.note.refusal == ""


def test_who_has_nothing_gets_the_one_before_when_the_new_fails(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    fetch(f"{watch_setup.registry}/embedder", watch_setup.home)
    watch_setup.publish("b")
    watch_setup.app.bad.add(2)
    follower = watch_setup.follower()
    assert follower.poll()
    assert watch_setup.app.log == ["nothing to v2", "nothing to v1"]
    assert (version(follower), watch_setup.link()) == (1, 1)
    watch_setup.app.bad.add(1)
    other = watch_setup.follower()
    assert other.poll()
    assert other.snapshot is None


class RefusingFetcher(Fetcher):
    """A CPU on which v2 answers differently."""

    def prepare(self, version: ResolvedVersion) -> LocalSnapshot:
        if version.version == 2:
            raise FidelityError("v2 does not answer on this CPU as it was proven to:\n  int8: 0.5")
        return super().prepare(version)


def test_a_version_that_fails_its_test_is_not_linked(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower(fetcher=RefusingFetcher)
    assert follower.poll()
    watch_setup.publish("b")
    assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1"]
    assert (version(follower), watch_setup.link()) == (1, 1)
    held = read_quarantine(watch_setup.model, "current")
    assert held is not None
    assert held.reason == "v2 does not answer on this CPU as it was proven to: int8: 0.5."
    fresh = watch_setup.follower(fetcher=RefusingFetcher)
    assert fresh.poll()
    assert version(fresh) == 1


def make_real_build(folder: Path, seed: str, table: Any) -> None:
    """A build whose graph onnxruntime loads; it answers as its manifest says if ``table`` is the original's."""
    manifest = make_build(folder, seed, variants=("int8",))
    _, tested, variant = make_version(folder, table)
    graph = describe(variant.model, (folder / variant.model).read_bytes())
    manifest = manifest._replace(
        files=tuple(graph if file.path == graph.path else file for file in manifest.files),
        variants=(manifest.variants[0]._replace(fidelity=variant.fidelity),),
        golden=tested.golden,
    )
    (folder / "manifest.json").write_bytes(serialize_manifest(manifest))


@pytest.mark.slow
def test_a_self_test_is_run_before_the_link_moves(watch_setup: WatchSetup) -> None:
    follower = watch_setup.follower(self_test=True)
    for seed, table in (("a", weights()), ("b", -weights()), ("c", weights())):
        make_real_build(watch_setup.folder / f"build-{seed}", seed, table)
        watch_setup.put(seed)
        assert follower.poll()
        assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1", "v1 to v3"]
    assert watch_setup.app.names == ["moved", "changed", "moved", "quarantined", "moved", "changed"]
    [refused] = [event for event in watch_setup.app.events if event.name == "quarantined"]
    assert "v2 does not answer on this CPU as it was proven to" in refused.text
    assert watch_setup.link() == 3


def test_who_goes_back_does_not_hold_others_back(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    told = watch_setup.app.changed

    def changed(new: Snapshot, old: Snapshot | None) -> None:
        told(new, old)
        if new.version == 2:
            watch_setup.publish("c")
            assert fetch(f"{watch_setup.registry}/embedder", watch_setup.home).version == 3
            raise ValueError("v2 does not load")

    follower._receiver = Receiver(changed, watch_setup.app.returned)
    watch_setup.publish("b")
    assert follower.poll()
    assert (version(follower), watch_setup.link()) == (1, 3)
    assert follower.poll()
    assert (version(follower), watch_setup.link()) == (3, 3)
    assert watch_setup.app.log == ["nothing to v1", "v1 to v2", "back from v2 to v1", "v1 to v3"]


def _emptied(registry: Path) -> None:
    shutil.rmtree(registry)
    registry.mkdir()


def _unmounted(registry: Path) -> None:
    registry.rename(registry.with_name("elsewhere"))


def _truncated(registry: Path) -> None:
    channel = registry / "embedder/current"
    channel.write_bytes(channel.read_bytes()[:-40])


def _replaced(registry: Path) -> None:
    (registry / "embedder/current").write_bytes(b'{"schema": "modeldrop/channel/99"}')


def _huge(registry: Path) -> None:
    (registry / "embedder/current").write_bytes(b" " * (2 << 20))


def _gone_back(registry: Path) -> None:
    channel = json.loads((registry / "embedder/current").read_bytes())
    older = channel["history"][0] | {name: channel[name] for name in ("schema", "readable_by")} | {"history": []}
    (registry / "embedder/current").write_text(json.dumps(older))


def _damaged_version(registry: Path) -> None:
    WatchSetup(str(registry), registry.parent).publish("c")
    file = registry / "embedder/v3/onnx/model_quantized.onnx"
    file.chmod(0o644)
    file.write_bytes(bytes(file.stat().st_size))


def _lost_manifest(registry: Path) -> None:
    WatchSetup(str(registry), registry.parent).publish("c")
    (registry / "embedder/v3/manifest.json").unlink()


@pytest.mark.parametrize(
    "harm",
    [_emptied, _unmounted, _truncated, _replaced, _huge, _gone_back, _damaged_version, _lost_manifest],
    ids=lambda harm: harm.__name__.strip("_"),
)
@pytest.mark.parametrize("resume", [True, False], ids=["program", "app"])
def test_no_registry_takes_a_model_away(harm: Callable[[Path], None], resume: bool, watch_setup: WatchSetup) -> None:
    for seed in "ab":
        watch_setup.publish(seed)
        follower = watch_setup.follower(resume=resume)
        assert follower.poll()
    before, log = follower.snapshot, list(watch_setup.app.log)
    kept = watch_setup.folder / "kept"
    shutil.copytree(watch_setup.registry, kept)
    harm(Path(watch_setup.registry))
    for _ in range(2):
        assert not follower.poll()
    assert follower.snapshot is before
    assert watch_setup.link() == 2
    assert watch_setup.app.log == log
    assert watch_setup.app.names[-1] == "unavailable"
    said = [event.text for event in watch_setup.app.events]
    assert len(set(said)) == len(said)
    assert follower.note.error
    late = watch_setup.follower(resume=resume)  # a process that starts now uses what is on this disk
    assert not late.poll()
    assert version(late) == 2
    shutil.rmtree(watch_setup.registry, ignore_errors=True)
    shutil.copytree(kept, watch_setup.registry)
    assert follower.poll()
    assert follower.snapshot is before
    assert watch_setup.app.names[-1] == "available"
    assert follower.note.error == ""


def test_what_cannot_be_downloaded_is_tried_again(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    watch_setup.publish("b")
    file = Path(watch_setup.registry) / "embedder/v2/onnx/model_quantized.onnx"
    file.rename(file.with_suffix(".away"))
    assert not follower.poll()
    assert not follower.poll()
    file.with_suffix(".away").rename(file)
    assert follower.poll()
    assert (version(follower), watch_setup.link()) == (2, 2)
    assert read_quarantine(watch_setup.model, "current") is None


def test_without_a_registry_the_policy_decides(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    fetch(f"{watch_setup.registry}/embedder", watch_setup.home)
    Path(watch_setup.registry).rename(watch_setup.folder / "away")
    strict = watch_setup.follower(on_unavailable="fail")
    assert not strict.poll()
    assert strict.snapshot is None
    stale = watch_setup.follower(max_stale=0.0)
    assert not stale.poll()
    assert stale.snapshot is None
    follower = watch_setup.follower()
    assert not follower.poll()
    assert version(follower) == 1
    assert watch_setup.app.log == ["nothing to v1"]


def test_a_program_is_not_told_again_by_the_next_watch(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    assert watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log == ["nothing to v1"]
    again = watch_setup.follower(resume=True)
    assert version(again) == 1
    assert again.poll()
    assert watch_setup.app.log == ["nothing to v1"]
    watch_setup.publish("b")
    fetch(f"{watch_setup.registry}/embedder", watch_setup.home)  # somebody else was faster
    assert watch_setup.link() == 2
    late = watch_setup.follower(resume=True)
    assert version(late) == 1
    assert late.poll()
    assert watch_setup.app.log == ["nothing to v1", "v1 to v2"]


def test_what_was_fetched_before_the_first_watch_is_no_news(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    fetch(f"{watch_setup.registry}/embedder", watch_setup.home)
    follower = watch_setup.follower(resume=True)
    assert version(follower) == 1
    assert follower.poll()
    assert watch_setup.app.log == []


def test_a_lost_link_is_made_again(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    assert watch_setup.follower(resume=True).poll()
    (watch_setup.model / "current").unlink()
    shutil.rmtree(watch_setup.model / ".state")
    assert watch_setup.follower(resume=True).poll()
    assert watch_setup.link() == 1
    assert watch_setup.app.log == ["nothing to v1"]


def test_a_link_that_is_removed_is_made_again_by_the_next_look(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower(resume=True)
    assert follower.poll()
    (watch_setup.model / "current").unlink()
    assert follower.poll()
    assert watch_setup.link() == 1
    assert watch_setup.app.log == ["nothing to v1"]
    Path(watch_setup.registry).rename(watch_setup.folder / "away")
    (watch_setup.model / "current").unlink()
    assert not follower.poll()
    assert watch_setup.link() == 1
    (watch_setup.folder / "away").rename(watch_setup.registry)
    shutil.rmtree(watch_setup.model)
    assert follower.poll()
    assert watch_setup.link() == 1
    assert follower.snapshot is not None
    assert follower.snapshot.model_file.exists()
    assert watch_setup.app.log == ["nothing to v1", "v1 to v1"]


class KilledError(BaseException):
    """The watch is killed: nothing more is done."""


def killed_telling(watch_setup: WatchSetup, number: int) -> None:
    """Let a watch be killed while it tells of a version."""
    follower = watch_setup.follower(resume=True)
    told = watch_setup.app.changed

    def changed(new: Snapshot, old: Snapshot | None) -> None:
        told(new, old)
        if new.version == number:
            raise KilledError

    follower._receiver = Receiver(changed, watch_setup.app.returned, resume=True)
    with pytest.raises(KilledError):
        follower.poll()
    follower.release()
    watch_setup.app.log.clear()


def killed_telling_v2(watch_setup: WatchSetup) -> None:
    """Let a watch be killed while it tells of v2, after another one has told of v1."""
    watch_setup.publish("a")
    assert watch_setup.follower(resume=True).poll()
    watch_setup.publish("b")
    killed_telling(watch_setup, 2)


def outstanding(watch_setup: WatchSetup) -> str:
    [status] = read_status(watch_setup.home)
    assert bool(status.untold) == (status.code() == HookError.exit_code)
    return status.untold


def test_a_move_back_is_told_to_whoever_was_being_told_of_the_newer(watch_setup: WatchSetup) -> None:
    killed_telling_v2(watch_setup)
    assert "has begun to tell of v2, and has not come to its end" in outstanding(watch_setup)
    watch_setup.promote(1)
    follower = watch_setup.follower(resume=True)
    watch_setup.app.bad.add(1)  # the service is restarting
    for _ in range(3):
        assert follower.poll()
    assert watch_setup.app.log == ["v2 to v1"] * 3
    assert "not every hook has been told of what is in use: v1 does not load" in outstanding(watch_setup)
    watch_setup.app.bad.clear()
    assert follower.poll()
    assert follower.poll()
    assert watch_setup.app.log == ["v2 to v1"] * 4
    assert watch_setup.app.names[-1] == "told"
    assert (outstanding(watch_setup), watch_setup.link(), version(follower)) == ("", 1, 1)


def test_a_first_telling_that_was_broken_off_is_finished(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    killed_telling(watch_setup, 1)
    follower = watch_setup.follower(resume=True)
    assert follower.snapshot is None
    assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1"]
    assert outstanding(watch_setup) == ""


def test_the_channel_moves_on_while_a_watch_is_away(watch_setup: WatchSetup) -> None:
    killed_telling_v2(watch_setup)
    watch_setup.publish("c")
    assert watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log == ["v1 to v3"]
    assert (outstanding(watch_setup), watch_setup.link()) == ("", 3)


def test_without_a_registry_what_the_link_names_is_told(watch_setup: WatchSetup) -> None:
    killed_telling_v2(watch_setup)
    Path(watch_setup.registry).rename(watch_setup.folder / "away")
    assert not watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log == ["v1 to v2"]
    assert (outstanding(watch_setup), watch_setup.link()) == ("", 2)


def test_without_a_registry_what_fails_is_taken_back(watch_setup: WatchSetup) -> None:
    killed_telling_v2(watch_setup)
    Path(watch_setup.registry).rename(watch_setup.folder / "away")
    watch_setup.app.bad.add(2)
    assert not watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log == ["v1 to v2", "back from v2 to v1"]
    assert (outstanding(watch_setup), watch_setup.link()) == ("", 1)


def test_the_note_of_an_older_release_says_less(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    assert watch_setup.follower(resume=True).poll()
    path = watch_setup.model / ".watch/current.json"
    old = {name: value for name, value in json.loads(path.read_text()).items() if name not in {"telling", "refusal"}}
    watch_setup.publish("b")
    killed_telling(watch_setup, 2)
    path.write_text(json.dumps(old))
    watch_setup.promote(1)
    assert watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log == ["v2 to v1"]
    watch_setup.app.log.clear()
    path.write_text(json.dumps(old))
    assert watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log == []


def test_an_app_that_follows_the_same_link_changes_nothing_of_what_hooks_were_told(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    assert watch_setup.follower(resume=True).poll()
    watch_setup.publish("b")
    assert watch_setup.follower().poll()
    assert watch_setup.app.log == ["nothing to v1", "nothing to v2"]
    assert watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log[2:] == ["v1 to v2"]


def test_nobody_is_told_what_cannot_be_written_down(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower(resume=True)
    assert follower.poll()
    watch_setup.publish("b")
    note = watch_setup.model / ".watch"
    note.rename(note.with_name("away"))
    note.touch()
    assert not follower.poll()
    assert watch_setup.app.log == ["nothing to v1"]
    assert watch_setup.link() == 1
    note.unlink()
    note.with_name("away").rename(note)
    assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1", "v1 to v2"]


def test_nobody_is_told_of_what_could_not_be_linked(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower(resume=True)
    assert follower.poll()
    watch_setup.publish("b")
    link = watch_setup.model / "current"
    link.rename(link.with_name("away"))
    link.mkdir()
    for _ in range(2):
        assert not follower.poll()
    assert "is in the way" in watch_setup.app.events[-1].text
    assert follower.note.telling is None
    link.rmdir()
    assert follower.poll()
    assert watch_setup.app.log == ["nothing to v1", "v1 to v2"]


def test_a_snapshot_is_held_while_it_is_in_use(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    one = follower.snapshot
    watch_setup.publish("b")
    assert follower.poll()
    two = follower.snapshot
    assert one is not None
    assert two is not None
    assert user_of(one.path, time.time()) == ""
    assert user_of(two.path, time.time())
    shutil.rmtree(watch_setup.model / ".leases")
    follower.touch()
    assert len(list((watch_setup.model / ".leases" / two.path.name).iterdir())) == 1
    follower.release()
    assert user_of(two.path, time.time()) == ""


@pytest.mark.parametrize(
    ("reference", "options"),
    [("@v1", {}), (f"@current@sha256:{'0' * 64}", {}), ("", {"on_unavailable": "offline"})],
)
def test_what_cannot_be_followed(reference: str, options: dict[str, Any], watch_setup: WatchSetup) -> None:
    with pytest.raises(UsageError):
        watch_setup.follower(reference=f"{watch_setup.registry}/embedder{reference}", **options)


def test_a_home_of_another_registry(watch_setup: WatchSetup, tmp_path: Path) -> None:
    watch_setup.publish("a")
    fetch(f"{watch_setup.registry}/embedder", watch_setup.home)
    with pytest.raises(UsageError, match="holds this model from"):
        watch_setup.follower(reference=f"{tmp_path}/other/embedder")
