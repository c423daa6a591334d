"""What other processes do to a home between two looks of this one: no obstacle, no false cause, nothing lost."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.cli import main
from modeldrop.errors import RegistryError, UsageError
from modeldrop.fetcher import leases, status
from modeldrop.fetcher.download import staging, transfer
from modeldrop.fetcher.eviction import evict
from modeldrop.fetcher.fetch import Fetcher, fetch
from modeldrop.fetcher.home import ModelHome, read_link
from modeldrop.fetcher.leases import InUse, lease
from modeldrop.fetcher.options import Options
from modeldrop.fetcher.resolve import Resolver
from modeldrop.fetcher.self_test import Outcome
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.verify import find_damage
from modeldrop.fetcher.watch.follower import UNAVAILABLE, Follower, Receiver
from modeldrop.format.reference import parse_reference
from modeldrop.storage.read.folder import FolderReader
from modeldrop.util.files import remove_tree
from modeldrop.util.locks import try_lock
from tests.helpers.builds import MODELS, SHARED, contents, publish_build

if TYPE_CHECKING:
    from modeldrop.fetcher.events import Event
    from modeldrop.fetcher.snapshot import Snapshot
    from modeldrop.fetcher.status import ChannelStatus

SIZE = sum(len(contents("a")[path]) for path in (*SHARED, MODELS["int8"]))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def two(registry: Path, home: Path) -> tuple[Path, Path]:
    """Two snapshots in a home; nobody needs the first one."""
    publish_build(registry, "a")
    first = fetch(f"{registry}/embedder", home).path
    publish_build(registry, "b")
    second = fetch(f"{registry}/embedder", home).path
    leases.let_go()
    return first, second


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lock is free, as on some network file systems."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)


def is_whole(snapshot: Snapshot) -> bool:
    return list(find_damage(LocalSnapshot(snapshot.path), read_files=True)) == []


def free(home: Path) -> list[Path]:
    """Remove all that nobody needs, as another process does that makes room."""
    return evict(ModelHome(home, "embedder"), 0, now=time.time(), idle=0)


def test_a_staging_folder_that_is_made_and_removed_all_the_time(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone when it is to be locked, there at the next look, and gone again."""
    publish_build(registry, "a")
    lock, lexists = try_lock, os.path.lexists
    folders: list[Path] = []

    def lock_late(path: Path) -> object:
        if not folders:
            folders.append(path.parent)
            path.parent.rmdir()
        return lock(path)

    def lexists_a_moment_ago(path: str) -> bool:
        return Path(path) in folders or lexists(path)

    monkeypatch.setattr(staging, "try_lock", lock_late)
    monkeypatch.setattr(os.path, "lexists", lexists_a_moment_ago)
    found = fetch(f"{registry}/embedder", home)
    assert (found.warnings, found.figures.fetched) == ((), SIZE)
    assert list((home / "embedder/.partial").iterdir()) == []


def test_what_came_before_another_process_took_the_folder_over_counts(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a")
    came: list[int] = []
    taken: list[Path] = []
    count_came = transfer._Counters.count_came

    def count(self: Any, file: Any, number: int, *, fetched: bool = True) -> None:
        came.append(number if fetched else 0)
        count_came(self, file, number, fetched=fetched)

    def take_over(done: int, _total: int) -> None:
        if done and not taken:
            taken.extend((home / "embedder/.partial").glob("*-int8/*/"))
            remove_tree(taken[0])

    monkeypatch.setattr(transfer._Counters, "count_came", count)
    found = fetch(f"{registry}/embedder", home, progress=take_over)
    assert len(taken) == 1
    assert found.figures.fetched == sum(came) > SIZE
    assert is_whole(found)


def test_a_snapshot_that_is_removed_as_soon_as_it_is_finished(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that makes room: it is brought again, both times are told, and nobody waits for it to be shown."""
    publish_build(registry, "a")
    shown = ModelHome.finish
    gone: list[Path] = []

    def finish(self: ModelHome, claim: Any, target: Path, *more: Any) -> bool:
        if not gone:
            rename = Path.rename

            def rename_and_lose(path: Path, to: Path) -> Path:
                made = rename(path, to)
                if to == target and not gone:
                    gone.append(target)
                    assert free(home) == [target]
                return made

            monkeypatch.setattr(Path, "rename", rename_and_lose)
        return shown(self, claim, target, *more)

    monkeypatch.setattr(ModelHome, "finish", finish)
    found = fetch(f"{registry}/embedder", home, timeout=600)
    assert gone == [found.path]
    assert is_whole(found)
    assert (found.warnings, found.figures.fetched) == ((), 2 * SIZE)
    assert read_link(home / "embedder/current") == found.path.name


def test_the_registry_of_a_home_that_another_process_writes_down_in_the_same_moment(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a")
    temporary = ModelHome._temporary

    def late(self: ModelHome) -> Path:
        (self.path / ".registry").write_text("s3://theirs/models\n", "utf-8")
        return temporary(self)

    monkeypatch.setattr(ModelHome, "_temporary", late)
    with pytest.raises(UsageError, match="holds this model from s3://theirs/models, not from"):
        fetch(f"{registry}/embedder", home)
    assert (home / "embedder/.registry").read_text("utf-8") == "s3://theirs/models\n"
    assert list((home / "embedder/.partial").iterdir()) == []


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("how", ["link", "lease"])
def test_what_somebody_needs_in_the_moment_when_it_loses_its_name_stays(
    home: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    rename = Path.rename
    given: list[Path] = []

    def rename_late(path: Path, to: Path) -> Path:
        if path == two[0] and not given:
            given.append(path)
            if how == "link":
                ModelHome(home, "embedder").link("staging", path)
            else:
                given.append(lease(path).path)
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_late)
    assert free(home) == []
    assert given[0] == two[0]
    assert list(find_damage(LocalSnapshot(two[0]), read_files=True)) == []
    assert list((home / "embedder/.partial").iterdir()) == []


@pytest.mark.usefixtures("no_locks")
def test_of_two_that_remove_the_same_snapshot_one_has(
    home: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    removed: list[Path] = []

    def rename_late(path: Path, to: Path) -> Path:
        if path == two[0] and not removed:
            removed.append(path)
            assert free(home) == [path]
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_late)
    assert free(home) == []


@pytest.mark.usefixtures("no_locks")
def test_a_snapshot_that_is_removed_while_its_lease_is_written_is_not_in_use(
    home: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = leases.lease

    def late(snapshot: Path) -> leases.Lease:
        assert free(home) == [two[0]]
        return make(snapshot)

    monkeypatch.setattr(leases, "lease", late)
    with pytest.raises(FileNotFoundError):
        InUse.take(two[0])
    assert not list((home / "embedder/.leases").iterdir())


def test_a_lease_whose_folder_the_last_one_but_it_tidies_up(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    others, touch = [lease(two[0])], Path.touch

    def touch_late(path: Path) -> None:
        if others:
            others.pop().release()
        touch(path)

    monkeypatch.setattr(Path, "touch", touch_late)
    assert lease(two[0]).path.exists()


def test_two_that_ask_at_once_whether_somebody_holds_a_snapshot(
    home: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that asks holds it alone, for a moment."""
    flock = fcntl.flock
    asked: list[int] = []

    def flock_later(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX | fcntl.LOCK_NB and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            asked.append(descriptor)
            if len(asked) == 1:
                raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        flock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", flock_later)
    assert leases.user_of(two[0], time.time()) == ""
    assert len(asked) == 2


def test_a_snapshot_is_held_while_it_is_tested(registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_build(registry, "a")

    def test(folder: Path, _manifest: object, variant: Any, _seconds: float) -> Outcome:
        assert free(home) == []
        assert folder.is_dir()
        return Outcome(
            passed=True, variant=variant.name, metric="", value=1.0, threshold=0.0, detail="", seconds=0.0
        )  # fmt: skip

    monkeypatch.setattr("modeldrop.fetcher.self_test.self_test", test)
    found = fetch(f"{registry}/embedder", home, self_test=True)
    assert (found.warnings, found.figures.fetched) == ((), SIZE)


def test_a_snapshot_that_is_removed_right_before_its_test_is_brought_again(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a")
    take = InUse.take
    gone: list[Path] = []

    def take_late(snapshot: Path) -> InUse:
        if not gone:
            gone.extend(free(home))
        return take(snapshot)

    def test(folder: Path, _manifest: object, variant: Any, _seconds: float) -> Outcome:
        assert folder.is_dir()
        return Outcome(
            passed=True, variant=variant.name, metric="", value=1.0, threshold=0.0, detail="", seconds=0.0
        )  # fmt: skip

    monkeypatch.setattr(InUse, "take", take_late)
    monkeypatch.setattr("modeldrop.fetcher.self_test.self_test", test)
    found = fetch(f"{registry}/embedder", home, self_test=True)
    assert gone == [found.path]
    assert (found.warnings, found.figures.fetched) == ((), 2 * SIZE)


def test_the_last_good_version_is_what_another_process_has_brought_meanwhile(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits in vain for a registry must not move the link back."""
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", home)
    publish_build(registry, "b")
    resolve = Resolver.resolve

    def late(_self: Resolver, _stored: object) -> None:
        monkeypatch.setattr(Resolver, "resolve", resolve)
        assert fetch(f"{registry}/embedder", home).version == 2
        raise RegistryError("It does not answer.")

    monkeypatch.setattr(Resolver, "resolve", late)
    found = fetch(f"{registry}/embedder", home)
    assert (found.version, found.generation, found.checked) == (2, 2, "disk")
    assert read_link(home / "embedder/current") == found.path.name


def test_an_older_document_that_a_slow_publisher_puts_back_for_a_moment(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a")
    older = (registry / "embedder/current").read_bytes()
    publish_build(registry, "b")
    fetch(f"{registry}/embedder", home)
    get = FolderReader.get
    answered: list[str] = []

    def get_older(self: FolderReader, key: str, limit: int) -> bytes | None:
        if key == "embedder/current":
            answered.append(key)
            return older if len(answered) < 3 else get(self, key, limit)
        return get(self, key, limit)

    monkeypatch.setattr(FolderReader, "get", get_older)
    found = fetch(f"{registry}/embedder", home)
    assert (found.version, found.warnings, found.checked) == (2, (), "registry")


def follower(registry: Path, home: Path, events: list[Event]) -> Follower:
    def make() -> Fetcher:
        return Fetcher(parse_reference(f"{registry}/embedder"), home, Options(), patient=False)

    found = Follower(make, Receiver(lambda _new, _old: None), events.append)
    found.begin(30)
    return found


def test_a_watch_that_is_answered_before_another_process_is(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that has learned of the channel meanwhile is newer than the answer: the registry did not go back."""
    publish_build(registry, "a")
    events: list[Event] = []
    watch = follower(registry, home, events)
    monkeypatch.setattr("modeldrop.fetcher.resolve._LOOKS", 1)
    ask = FolderReader.get_if_changed
    moved: list[str] = []

    def ask_early(self: FolderReader, key: str, limit: int, etag: str) -> Any:
        answer = ask(self, key, limit, etag)
        if not moved:
            moved.append(key)
            publish_build(registry, "b")
            assert fetch(f"{registry}/embedder", home).version == 2
        return answer

    monkeypatch.setattr(FolderReader, "get_if_changed", ask_early)
    assert watch.poll()
    assert watch.poll()
    watch.release()
    assert watch.snapshot is not None
    assert watch.snapshot.version == 2
    assert UNAVAILABLE not in {event.name for event in events}


def test_a_watch_says_that_what_it_has_brought_was_removed_and_brings_it_again(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a")
    events: list[Event] = []
    watch = follower(registry, home, events)
    take = InUse.take
    gone: list[Path] = []

    def take_late(snapshot: Path) -> InUse:
        if not gone:
            gone.append(snapshot)
            remove_tree(snapshot)
        return take(snapshot)

    monkeypatch.setattr(InUse, "take", take_late)
    assert not watch.poll()
    assert watch.poll()
    watch.release()
    (failed,) = (event for event in events if event.name == UNAVAILABLE)
    assert f"{gone[0]} was removed after it was fetched." in failed.text
    assert watch.snapshot is not None
    assert is_whole(watch.snapshot)


def test_the_status_of_a_link_that_moves_on_between_two_looks(
    home: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ModelHome(home, "embedder")
    there.link("current", two[0])
    look = find_damage
    moved: list[Path] = []

    def look_late(snapshot: LocalSnapshot) -> Any:
        if not moved:
            moved.append(snapshot.path)
            there.link("current", two[1])
            remove_tree(two[0])
        return look(snapshot)

    monkeypatch.setattr(status, "find_damage", look_late)
    (found,) = status.read_status(home)
    assert moved == [two[0]]
    assert found.snapshot is not None
    assert (found.fault, found.snapshot.path) == ("", two[1])


@pytest.mark.usefixtures("two")
def test_the_status_of_a_home_from_which_a_model_is_removed_between_two_looks(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a", model="other")
    fetch(f"{registry}/other", home)
    look = status._of_model

    def look_late(folder: Path) -> list[ChannelStatus]:
        if folder.name == "embedder":
            remove_tree(folder)
        return look(folder)

    monkeypatch.setattr(status, "_of_model", look_late)
    assert [(one.model, one.fault) for one in status.read_status(home)] == [("other", "")]


def test_a_file_that_is_removed_while_it_is_verified_is_missing(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two[0] / MODELS["int8"]
    opened = os.open

    def open_late(name: Any, *arguments: Any, **options: Any) -> int:
        if name == str(path):
            path.unlink()
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "open", open_late)
    assert list(find_damage(LocalSnapshot(two[0]), read_files=True)) == [f"{path} is missing."]


@pytest.mark.parametrize("locks", ["work", "dead"])
def test_what_is_evicted_while_all_is_verified_is_not_damaged(
    home: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], locks: str
) -> None:
    """Where locks exclude others, it is not evicted before it is verified."""
    if locks == "dead":
        monkeypatch.setattr("fcntl.flock", lambda *_: None)
    look = find_damage
    gone: list[list[Path]] = []

    def look_late(snapshot: LocalSnapshot, **options: Any) -> Any:
        gone.append(free(home))
        return look(snapshot, **options)

    monkeypatch.setattr("modeldrop.commands.verify.find_damage", look_late)
    assert main(["verify", "-d", str(home)]) == 0
    assert capsys.readouterr().out.count("whole") == 1 + (locks == "work")
    assert gone[0] == ([] if locks == "work" else [two[0]])
