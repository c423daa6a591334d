from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import modeldrop
from modeldrop.errors import FidelityError, ModeldropError, RegistryError, UsageError
from modeldrop.fetcher.api import fetch
from modeldrop.fetcher.fetch import Fetcher
from modeldrop.fetcher.leases import user_of
from modeldrop.fetcher.notes import read_quarantine, read_state
from modeldrop.fetcher.options import Options
from modeldrop.fetcher.watch.follower import Follower, Receiver, StoppedError
from modeldrop.fetcher.watch.watcher import Watcher, pause
from modeldrop.format.manifest import serialize_manifest
from modeldrop.format.reference import parse_reference
from modeldrop.registry.channels import move_forward, promote
from modeldrop.storage.write import open_store
from tests.fetcher.small_versions import make_version, weights
from tests.helpers.builds import describe, make_build, publish_folder
from tests.helpers.clouds import sign_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modeldrop.fetcher.aim import Aim
    from modeldrop.fetcher.events import Event
    from modeldrop.fetcher.fetch import Prepared
    from modeldrop.fetcher.snapshot import Snapshot

SECONDS = 20.0


class App:
    """A program that loads models: it notes what it is told, and cannot load some versions."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events: list[Event] = []
        self.bad: set[int] = set()
        self.heard = threading.Condition()

    def changed(self, new: Snapshot, old: Snapshot | None) -> None:
        with self.heard:
            self.log.append(f"{f'v{old.version}' if old else 'nothing'} to v{new.version}")
            self.heard.notify_all()
        assert user_of(new.path, time.time())
        assert old is None or user_of(old.path, time.time())
        if new.version in self.bad:
            raise ValueError(f"v{new.version} does not load, password=hunter2")

    def returned(self, good: Snapshot, bad: Snapshot) -> None:
        self.log.append(f"back from v{bad.version} to v{good.version}")

    def waits_for(self, line: str) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: line in self.log, SECONDS), self.log

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]


class Setup:
    """A registry, a home, and who watches."""

    def __init__(self, registry: str, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.home = folder / "home"
        self.model = self.home / "embedder"
        self.app = App()

    def publish(self, seed: str) -> None:
        make_build(self.folder / f"build-{seed}", seed)
        self.put(seed)

    def put(self, seed: str) -> None:
        """Publish a build that is there."""
        store = open_store(self.registry)
        version = publish_folder(store, "embedder", self.folder / f"build-{seed}", adopt_seconds=0.2).version
        move_forward(store, "embedder", version, "current", by="dana")

    def promote(self, version: int) -> None:
        promote(open_store(self.registry), "embedder", version, "current", by="dana")

    def follower(
        self, *, resume: bool = False, fetcher: type[Fetcher] = Fetcher, reference: str = "", **options: Any
    ) -> Follower:
        parsed = parse_reference(reference or f"{self.registry}/embedder")
        return Follower(
            lambda: fetcher(parsed, self.home, Options(**options)),
            Receiver(self.app.changed, self.app.returned, resume=resume),
            self.app.events.append,
        )

    def watcher(self, **options: Any) -> Watcher:
        return modeldrop.watch(
            f"{self.registry}/embedder",
            self.app.changed,
            directory=self.home,
            interval=0.02,
            on_event=self.app.events.append,
            **options,
        )

    def link(self) -> int:
        """The version that the link names."""
        return int((self.model / "current").readlink().name.partition("-")[0].removeprefix("v"))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(str(tmp_path / "registry"), tmp_path)


@pytest.fixture(autouse=True)
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Followers that no thread runs let go of their snapshots after the test."""
    made: list[Follower] = []
    begin = Follower.__init__

    def noted(self: Follower, *arguments: Any) -> None:
        begin(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Follower, "__init__", noted)
    yield
    for follower in made:
        follower.release()


def version(follower: Follower) -> int:
    assert follower.snapshot is not None
    return follower.snapshot.version


def test_moves_are_followed_in_every_kind_of_registry(any_registry: str, tmp_path: Path) -> None:
    setup = Setup(any_registry, tmp_path)
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    assert follower.poll()
    setup.publish("b")
    assert follower.poll()
    assert follower.poll()
    setup.promote(1)
    assert follower.poll()
    assert setup.app.log == ["nothing to v1", "v1 to v2", "v2 to v1"]
    assert setup.app.names == ["moved", "changed"] * 3
    assert (version(follower), setup.link()) == (1, 1)
    assert follower.snapshot is not None
    assert fetch(f"{any_registry}/embedder", setup.home, on_unavailable="fail").path == follower.snapshot.path
    assert follower.note.error == ""


def test_one_conditional_request_per_look(servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = servers["s3"]
    sign_in(monkeypatch, server)
    setup = Setup(server.registry(), tmp_path)
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    server.reset()
    for _ in range(5):
        assert follower.poll()
    requests = server.requests()
    assert [(request.method, request.path.rpartition("/")[2]) for request in requests] == [("GET", "current")] * 5
    assert all(request.headers["if-none-match"] for request in requests)
    setup.publish("b")
    server.reset()
    assert follower.poll()
    paths = [request.path for request in server.requests()]
    assert [path.rpartition("/")[2] for path in paths].count("current") == 1
    assert version(follower) == 2


def test_what_fails_is_quarantined_until_the_channel_moves(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    first = follower.snapshot
    before = read_state(setup.model, "current")
    setup.app.bad.add(2)
    setup.publish("b")
    for _ in range(3):
        assert follower.poll()
    assert setup.app.log == ["nothing to v1", "v1 to v2", "back from v2 to v1"]
    assert follower.snapshot is first
    assert setup.link() == 1
    assert read_state(setup.model, "current") == before
    held = read_quarantine(setup.model, "current")
    assert held is not None
    assert (held.version, held.generation) == (2, 2)
    assert held.reason == "v2 does not load, password=[redacted]."
    assert follower.refused == held
    assert json.loads((setup.model / ".quarantine/current.json").read_text())["version"] == 2
    assert setup.app.names[2:] == ["moved", "quarantined", "returned"]
    assert "hunter2" not in repr(setup.app.events)
    setup.app.bad.clear()
    assert follower.poll()
    assert version(follower) == 1
    setup.publish("c")
    assert follower.poll()
    assert (version(follower), setup.link()) == (3, 3)
    assert read_quarantine(setup.model, "current") is None
    assert follower.refused is None


def test_the_same_version_is_tried_again_after_another_move(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    setup.app.bad.add(2)
    setup.publish("b")
    assert follower.poll()
    setup.promote(1)
    assert follower.poll()
    assert setup.app.log[-1] == "back from v2 to v1"  # v1 is in use already: nobody is told
    assert read_quarantine(setup.model, "current") is None
    assert follower.snapshot is not None
    assert follower.snapshot.generation == 3
    setup.app.bad.clear()
    setup.promote(2)
    assert follower.poll()
    assert (version(follower), setup.link()) == (2, 2)


def test_a_quarantine_outlives_the_process(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    setup.app.bad.add(2)
    setup.publish("b")
    assert follower.poll()
    follower.release()
    setup.app.log.clear()
    again = setup.follower()
    assert again.poll()
    assert again.poll()
    assert setup.app.log == ["nothing to v1"]
    assert (version(again), setup.link()) == (1, 1)
    assert again.refused is not None


def test_a_quarantined_version_is_better_than_none(setup: Setup) -> None:
    setup.publish("a")
    setup.app.bad.add(1)
    follower = setup.follower()
    assert follower.poll()
    assert follower.poll()
    assert setup.app.log == ["nothing to v1"]
    assert follower.snapshot is None
    assert follower.refused is not None
    assert setup.link() == 1  # a program that starts later finds it
    setup.app.bad.clear()
    again = setup.follower()
    assert again.poll()
    assert version(again) == 1


def test_who_has_nothing_gets_the_one_before_when_the_new_fails(setup: Setup) -> None:
    setup.publish("a")
    fetch(f"{setup.registry}/embedder", setup.home)
    setup.publish("b")
    setup.app.bad.add(2)
    follower = setup.follower()
    assert follower.poll()
    assert setup.app.log == ["nothing to v2", "nothing to v1"]
    assert (version(follower), setup.link()) == (1, 1)
    setup.app.bad.add(1)
    other = setup.follower()
    assert other.poll()
    assert other.snapshot is None


class Differs(Fetcher):
    """A CPU on which v2 answers differently."""

    def prepare(self, aim: Aim) -> Prepared:
        if aim.version == 2:
            raise FidelityError("v2 does not answer on this CPU as it was proven to:\n  int8: 0.5")
        return super().prepare(aim)


def test_a_version_that_fails_its_test_is_not_linked(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower(fetcher=Differs)
    assert follower.poll()
    setup.publish("b")
    assert follower.poll()
    assert setup.app.log == ["nothing to v1"]
    assert (version(follower), setup.link()) == (1, 1)
    held = read_quarantine(setup.model, "current")
    assert held is not None
    assert held.reason == "v2 does not answer on this CPU as it was proven to: int8: 0.5."
    fresh = setup.follower(fetcher=Differs)
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


def test_a_self_test_is_run_before_the_link_moves(setup: Setup) -> None:
    follower = setup.follower(self_test=True)
    for seed, table in (("a", weights()), ("b", -weights()), ("c", weights())):
        make_real_build(setup.folder / f"build-{seed}", seed, table)
        setup.put(seed)
        assert follower.poll()
        assert follower.poll()
    assert setup.app.log == ["nothing to v1", "v1 to v3"]
    assert setup.app.names == ["moved", "changed", "moved", "quarantined", "moved", "changed"]
    [refused] = [event for event in setup.app.events if event.name == "quarantined"]
    assert "v2 does not answer on this CPU as it was proven to" in refused.text
    assert setup.link() == 3


def test_who_goes_back_does_not_hold_others_back(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    told = setup.app.changed

    def changed(new: Snapshot, old: Snapshot | None) -> None:
        told(new, old)
        if new.version == 2:
            setup.publish("c")
            assert fetch(f"{setup.registry}/embedder", setup.home).version == 3
            raise ValueError("v2 does not load")

    follower._receiver = Receiver(changed, setup.app.returned)
    setup.publish("b")
    assert follower.poll()
    assert (version(follower), setup.link()) == (1, 3)
    assert follower.poll()
    assert (version(follower), setup.link()) == (3, 3)
    assert setup.app.log == ["nothing to v1", "v1 to v2", "back from v2 to v1", "v1 to v3"]


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
    older = channel["history"][0] | {name: channel[name] for name in ("schema", "readable_by")}
    (registry / "embedder/current").write_text(json.dumps(older))


def _damaged_version(registry: Path) -> None:
    Setup(str(registry), registry.parent).publish("c")
    file = registry / "embedder/v3/onnx/model_quantized.onnx"
    file.chmod(0o644)
    file.write_bytes(bytes(file.stat().st_size))


def _lost_manifest(registry: Path) -> None:
    Setup(str(registry), registry.parent).publish("c")
    (registry / "embedder/v3/manifest.json").unlink()


@pytest.mark.parametrize(
    "harm",
    [_emptied, _unmounted, _truncated, _replaced, _huge, _gone_back, _damaged_version, _lost_manifest],
    ids=lambda harm: harm.__name__.strip("_"),
)
@pytest.mark.parametrize("resume", [True, False], ids=["program", "app"])
def test_no_registry_takes_a_model_away(harm: Callable[[Path], None], resume: bool, setup: Setup) -> None:
    for seed in "ab":
        setup.publish(seed)
        follower = setup.follower(resume=resume)
        assert follower.poll()
    before, log = follower.snapshot, list(setup.app.log)
    kept = setup.folder / "kept"
    shutil.copytree(setup.registry, kept)
    harm(Path(setup.registry))
    for _ in range(2):
        assert not follower.poll()
    assert follower.snapshot is before
    assert setup.link() == 2
    assert setup.app.log == log
    assert setup.app.names[-1] == "unavailable"
    said = [event.text for event in setup.app.events]
    assert len(set(said)) == len(said)
    assert follower.note.error
    late = setup.follower(resume=resume)  # a process that starts now uses what is on this disk
    assert not late.poll()
    assert version(late) == 2
    shutil.rmtree(setup.registry, ignore_errors=True)
    shutil.copytree(kept, setup.registry)
    assert follower.poll()
    assert follower.snapshot is before
    assert setup.app.names[-1] == "available"
    assert follower.note.error == ""


def test_what_cannot_be_downloaded_is_tried_again(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    setup.publish("b")
    file = Path(setup.registry) / "embedder/v2/onnx/model_quantized.onnx"
    file.rename(file.with_suffix(".away"))
    assert not follower.poll()
    assert not follower.poll()
    file.with_suffix(".away").rename(file)
    assert follower.poll()
    assert (version(follower), setup.link()) == (2, 2)
    assert read_quarantine(setup.model, "current") is None


def test_without_a_registry_the_policy_decides(setup: Setup) -> None:
    setup.publish("a")
    fetch(f"{setup.registry}/embedder", setup.home)
    Path(setup.registry).rename(setup.folder / "away")
    strict = setup.follower(on_unavailable="fail")
    assert not strict.poll()
    assert strict.snapshot is None
    stale = setup.follower(max_stale=0.0)
    assert not stale.poll()
    assert stale.snapshot is None
    follower = setup.follower()
    assert not follower.poll()
    assert version(follower) == 1
    assert setup.app.log == ["nothing to v1"]


def test_a_program_is_not_told_again_by_the_next_watch(setup: Setup) -> None:
    setup.publish("a")
    assert setup.follower(resume=True).poll()
    assert setup.app.log == ["nothing to v1"]
    again = setup.follower(resume=True)
    assert version(again) == 1
    assert again.poll()
    assert setup.app.log == ["nothing to v1"]
    setup.publish("b")
    fetch(f"{setup.registry}/embedder", setup.home)  # somebody else was faster
    assert setup.link() == 2
    late = setup.follower(resume=True)
    assert version(late) == 1
    assert late.poll()
    assert setup.app.log == ["nothing to v1", "v1 to v2"]


def test_what_was_fetched_before_the_first_watch_is_no_news(setup: Setup) -> None:
    setup.publish("a")
    fetch(f"{setup.registry}/embedder", setup.home)
    follower = setup.follower(resume=True)
    assert version(follower) == 1
    assert follower.poll()
    assert setup.app.log == []


def test_a_lost_link_is_made_again(setup: Setup) -> None:
    setup.publish("a")
    assert setup.follower(resume=True).poll()
    (setup.model / "current").unlink()
    shutil.rmtree(setup.model / ".state")
    assert setup.follower(resume=True).poll()
    assert setup.link() == 1
    assert setup.app.log == ["nothing to v1"]


def test_a_snapshot_is_held_while_it_is_in_use(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    one = follower.snapshot
    setup.publish("b")
    assert follower.poll()
    two = follower.snapshot
    assert one is not None
    assert two is not None
    assert user_of(one.path, time.time()) == ""
    assert user_of(two.path, time.time())
    shutil.rmtree(setup.model / ".leases")
    follower.touch()
    assert len(list((setup.model / ".leases" / two.path.name).iterdir())) == 1
    follower.release()
    assert user_of(two.path, time.time()) == ""


@pytest.mark.parametrize(
    ("reference", "options"),
    [("@v1", {}), (f"@current@sha256:{'0' * 64}", {}), ("", {"on_unavailable": "offline"})],
)
def test_what_cannot_be_followed(reference: str, options: dict[str, Any], setup: Setup) -> None:
    with pytest.raises(UsageError):
        setup.follower(reference=f"{setup.registry}/embedder{reference}", **options)


def test_a_home_of_another_registry(setup: Setup, tmp_path: Path) -> None:
    setup.publish("a")
    fetch(f"{setup.registry}/embedder", setup.home)
    with pytest.raises(UsageError, match="holds this model from"):
        setup.follower(reference=f"{tmp_path}/other/embedder")


def test_the_thread_hands_over_what_is_new(setup: Setup) -> None:
    setup.publish("a")
    with setup.watcher() as watcher:
        assert watcher.wait(SECONDS).version == 1
        setup.publish("b")
        setup.app.waits_for("v1 to v2")
        setup.app.bad.add(3)
        setup.publish("c")
        setup.app.waits_for("v2 to v3")
    status = watcher.status()
    assert not status.running
    assert (status.model, status.channel) == ("embedder", "current")
    assert watcher.snapshot is not None
    assert watcher.snapshot.version == 2
    assert status.age is not None
    assert setup.app.events[0].name == "following"


def test_the_thread_waits_for_the_first_version(setup: Setup) -> None:
    with setup.watcher() as watcher:
        with pytest.raises(RegistryError, match="has given no snapshot yet"):
            watcher.wait(0.1)
        setup.publish("a")
        assert watcher.wait(SECONDS).version == 1
        assert watcher.link == ("embedder", "current")


def test_the_app_may_stop_the_watch_when_it_is_told(setup: Setup) -> None:
    setup.publish("a")
    known, stopped = threading.Event(), threading.Event()

    def on_change(_new: Snapshot, _old: Snapshot | None) -> None:
        assert known.wait(SECONDS)
        watcher.stop()
        stopped.set()

    watcher = modeldrop.watch(f"{setup.registry}/embedder", on_change, directory=setup.home, interval=60)
    known.set()
    assert stopped.wait(SECONDS)
    assert watcher.stop(SECONDS)
    assert not watcher.status().running


def test_a_download_ends_when_the_watch_does(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.publish("a")
    progress, begun = Watcher._progress, threading.Event()

    def stops(self: Watcher, done: int, total: int) -> None:
        self._follower.stopping.set()
        begun.set()
        progress(self, done, total)

    monkeypatch.setattr(Watcher, "_progress", stops)
    watcher = setup.watcher()
    assert begun.wait(SECONDS)
    assert watcher.stop(SECONDS)
    assert watcher.snapshot is None
    assert setup.app.log == []
    assert setup.app.names == ["following", "moved"]
    assert not (setup.model / "current").is_symlink()


def test_whoever_is_told_while_the_watch_ends_is_told_again(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower(resume=True)
    assert follower.poll()
    setup.publish("b")
    setup.app.bad.add(2)
    follower.stopping.set()  # its hooks are killed, which is not their fault
    with pytest.raises(StoppedError):
        follower.poll()
    assert read_quarantine(setup.model, "current") is None
    assert setup.link() == 1
    follower.release()
    setup.app.bad.clear()
    again = setup.follower(resume=True)
    assert again.poll()
    assert setup.app.log[-1] == "v1 to v2"
    assert setup.link() == 2


@pytest.mark.parametrize("options", [{"no_such": 1}, {"timeout": 0}, {"interval": 0}, {"interval": 1e9}])
def test_options_that_cannot_be_meant(options: dict[str, Any], setup: Setup) -> None:
    with pytest.raises(UsageError):
        modeldrop.watch(f"{setup.registry}/embedder", setup.app.changed, directory=setup.home, **options)


def test_pauses_grow_with_failures_and_never_meet() -> None:
    for failures, seconds in ((0, 30), (1, 60), (3, 240), (4, 300), (10_000, 300)):
        drawn = [pause(30, failures) for _ in range(200)]
        assert all(0.8 * seconds <= one <= 1.2 * seconds for one in drawn)
        assert max(drawn) - min(drawn) > 0.2 * seconds
    assert pause(3600, 5) >= 0.8 * 3600


def test_a_defect_does_not_end_the_watch(setup: Setup) -> None:
    setup.publish("a")
    broken: list[int] = []

    def tell(event: Event) -> None:
        setup.app.events.append(event)
        if event.name == "moved" and not broken:
            broken.append(1)
            raise ZeroDivisionError

    with modeldrop.watch(
        f"{setup.registry}/embedder", setup.app.changed, directory=setup.home, interval=0.02, on_event=tell
    ) as watcher:
        assert watcher.wait(SECONDS).version == 1
    assert any("unexpected ZeroDivisionError" in event.text for event in setup.app.events)


def test_expected_errors_are_sentences(setup: Setup) -> None:
    setup.publish("a")
    follower = setup.follower()
    assert follower.poll()
    os.truncate(Path(setup.registry) / "embedder/current", 0)
    assert not follower.poll()
    text = setup.app.events[-1].text
    assert text.startswith("embedder@current: ")
    assert text.endswith("v1 stays in use.")
    assert issubclass(RegistryError, ModeldropError)
