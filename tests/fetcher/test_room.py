"""Volumes with room for two versions."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

import modeldrop
from modeldrop.cli import main
from modeldrop.errors import DiskError
from modeldrop.fetcher import eviction, leases
from modeldrop.fetcher.download import room
from modeldrop.fetcher.download import volume as volume_module
from modeldrop.fetcher.eviction import disk_bytes
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.home import PARTIAL, ModelHome, find_snapshots
from modeldrop.util.locks import try_lock
from tests.helpers.builds import PIECE, environment, publish_build
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 2 * PIECE + (24 << 10)  # what one takes at most
RESERVE = room._RESERVE


@pytest.fixture(
    params=[
        "counted",
        pytest.param("mounted", marks=[pytest.mark.soak, pytest.mark.skipif(os.geteuid() != 0, reason="mounts")]),
    ]
)
def volume(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with room for two versions of a model and for half another one."""
    folder = tmp_path / "volume"
    folder.mkdir()
    size = VERSION * 5 // 2
    if request.param == "counted":
        monkeypatch.setattr(room, "free_bytes", lambda _: RESERVE + size - disk_bytes(folder))
        yield folder
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={RESERVE + size}", "tmpfs", folder], check=True)
    yield folder
    leases.let_go()
    subprocess.run(["umount", folder], check=True)


def versions(volume: Path, model: str = "embedder") -> list[str]:
    return sorted(f"v{one.version}" for one in find_snapshots(volume / model))


def test_one_release_after_another_arrives(registry: Path, volume: Path) -> None:
    for number, seed in enumerate("abcde", 1):
        publish_build(registry, seed)
        snapshot = fetch(f"{registry}/embedder", volume, keep=1)
        assert (snapshot.version, snapshot.checked, snapshot.warnings) == (number, "registry", ())
        assert versions(volume) == [f"v{kept}" for kept in range(max(1, number - 1), number + 1)]


def test_what_is_kept_stays_and_the_command_that_is_named_makes_room(
    registry: Path, volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in "ab":
        publish_build(registry, seed)
        fetch(f"{registry}/embedder", volume)
    publish_build(registry, "c")
    before = sorted(volume.rglob("*onnx"))
    snapshot = fetch(f"{registry}/embedder", volume)
    (warning,) = snapshot.warnings
    assert (snapshot.version, snapshot.checked) == (2, "disk")
    assert f"{volume}/embedder has too little room for embedder/v3: it needs 131.1 kB and" in warning
    assert "(kept)" in warning
    assert "(current, a process holds it)" in warning
    assert f"Using {snapshot.path.name}, which the registry last confirmed" in warning
    assert sorted(volume.rglob("*onnx")) == before
    command = warning.partition("modeldrop ")[2].partition(", or keep fewer (--keep 1)")[0]
    assert command == f"cache prune -d {volume} --keep 0"
    with pytest.raises(DiskError):
        fetch(f"{registry}/embedder@v3", volume)
    assert main(command.split()) == 0
    assert "removed embedder v1-" in capsys.readouterr().out
    assert fetch(f"{registry}/embedder", volume).version == 3
    publish_build(registry, "d")
    assert fetch(f"{registry}/embedder", volume, keep=1).version == 4  # the other way that the message names


def test_what_a_process_uses_stays(registry: Path, volume: Path) -> None:
    for seed in "ab":
        publish_build(registry, seed)
        fetch(f"{registry}/embedder", volume, keep=1)
    publish_build(registry, "c")
    (old,) = (one.path for one in find_snapshots(volume / "embedder") if one.version == 1)
    descriptor = leases.hold(old)
    snapshot = fetch(f"{registry}/embedder", volume, keep=1)
    assert snapshot.version == 2
    assert f"{old.name} " in snapshot.warnings[0]
    assert "(a process holds it)" in snapshot.warnings[0]
    assert "Free 1.0 MB there" in snapshot.warnings[0]  # nothing else would help
    os.close(descriptor)
    assert fetch(f"{registry}/embedder", volume, keep=1).version == 3
    assert versions(volume) == ["v2", "v3"]


USER = """
import sys
import modeldrop
path = modeldrop.fetch(sys.argv[1], sys.argv[2], keep=1).path
print(path, flush=True)
input()
assert (path / "onnx/model_quantized.onnx").is_file()
"""


def test_what_a_program_was_given_stays_while_it_lives(registry: Path, volume: Path) -> None:
    publish_build(registry, "a")
    reference = f"{registry}/embedder"
    with subprocess.Popen(
        [sys.executable, "-c", USER, reference, str(volume)],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert "/v1-" in program.stdout.readline()
        publish_build(registry, "b")
        assert fetch(reference, volume, keep=1).version == 2
        publish_build(registry, "c")
        assert fetch(reference, volume, keep=1).version == 2  # v1 is in use
        program.communicate("\n", timeout=HANG_SECONDS)
    assert program.returncode == 0
    assert fetch(reference, volume, keep=1).version == 3
    assert versions(volume) == ["v2", "v3"]


def test_other_models_make_room_too_and_keep_as_many(registry: Path, volume: Path) -> None:
    for seed in "ab":
        publish_build(registry, seed, model="reranker")
        fetch(f"{registry}/reranker", volume, keep=1)
    publish_build(registry, "c")
    with pytest.raises(DiskError, match=r"\(kept\)"):
        fetch(f"{registry}/embedder", volume, keep=2)
    assert versions(volume, "reranker") == ["v1", "v2"]
    assert fetch(f"{registry}/embedder", volume, keep=1).version == 1
    assert versions(volume, "reranker") == ["v2"]


def test_nothing_goes_where_that_would_not_be_enough(registry: Path, volume: Path) -> None:
    for seed in "ab":
        publish_build(registry, seed)
        fetch(f"{registry}/embedder", volume, keep=1)
    publish_build(registry, "c")
    (volume / "filler").mkdir()
    (volume / "filler/file").write_bytes(bytes(VERSION // 4))
    (volume / "embedder/.partial/ours").mkdir(parents=True)
    held = leases.hold(next(one.path for one in find_snapshots(volume / "embedder") if one.version == 1))
    assert fetch(f"{registry}/embedder", volume, keep=1).version == 2
    assert (volume / "embedder/.partial/ours").is_dir()
    assert versions(volume) == ["v1", "v2"]
    os.close(held)


def test_a_volume_that_is_being_tried_is_no_unfinished_work(registry: Path, volume: Path) -> None:
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", volume)
    home = ModelHome(volume, "embedder")
    tried: list[list[Path]] = []

    def look(path: Path) -> None:
        tried.append([path.parent, *home.abandoned()])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(volume_module, "_write_anywhere", look)
        volume_module.check_volume(volume / "embedder" / PARTIAL, ())
    ((folder, *found),) = tried
    assert folder not in found


@pytest.mark.parametrize("locked", [False, True])
def test_unfinished_work_that_nobody_goes_on_with_goes_first(registry: Path, volume: Path, locked: bool) -> None:
    for seed in "ab":
        publish_build(registry, seed)
        fetch(f"{registry}/embedder", volume, keep=1)
    publish_build(registry, "c")
    other = volume / "embedder/.partial/0123-int8"
    (other / "work").mkdir(parents=True)
    lock = try_lock(other / "lock") if locked else None
    (other / "work/model.onnx").write_bytes(bytes(VERSION // 4))
    assert fetch(f"{registry}/embedder", volume, keep=1).version == 3
    assert other.exists() == locked
    if lock is not None:
        lock.release()


def test_a_watch_takes_one_release_after_another(registry: Path, volume: Path) -> None:
    publish_build(registry, "a")
    taken: SimpleQueue[int] = SimpleQueue()
    with modeldrop.watch(
        f"{registry}/embedder", lambda new, _old: taken.put(new.version), directory=volume, interval=0.05, keep=1
    ):
        assert taken.get(timeout=HANG_SECONDS) == 1
        for number, seed in enumerate("bcd", 2):
            publish_build(registry, seed)
            assert taken.get(timeout=HANG_SECONDS) == number


def limit_writes(monkeypatch: pytest.MonkeyPatch, home: Path, size: int, code: str) -> list[int]:
    """Let no more than ``size`` bytes be written below a home; return the list of refusals, which grows."""
    refused: list[int] = []
    write, lock = os.pwrite, threading.Lock()

    def limited(descriptor: int, data: bytes, offset: int) -> int:
        with lock:
            if disk_bytes(home) + len(data) > size:
                refused.append(offset)
                raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))
            return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", limited)
    return refused


def test_models_that_are_fetched_at_once_share_a_volume(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, size = tmp_path / "home", 9 * VERSION // 2
    limit_writes(monkeypatch, home, size, "ENOSPC")  # what was free at the beginning, the other may have taken
    monkeypatch.setattr(room, "free_bytes", lambda _: RESERVE + size - disk_bytes(home))
    models = ("embedder", "reranker")
    command = ["fetch", *(f"{registry}/{model}" for model in models), "-d", str(home), "--keep=1", "--quiet"]
    for number, seed in enumerate("abcdef", 1):
        for model in models:
            publish_build(registry, seed + model, model=model)
        assert main(command) == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert [Path(line).name.partition("-")[0] for line in said.out.splitlines()] == [f"v{number}"] * 2


@pytest.mark.parametrize("quota", [False, True])
def test_room_that_another_download_takes_is_made_once_more(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: bool
) -> None:
    home, filler = tmp_path / "home", bytes(VERSION)
    for model in ("embedder", "reranker"):
        for seed in "ab":
            publish_build(registry, seed + model, model=model)
            fetch(f"{registry}/{model}", home, keep=2)
    publish_build(registry, "c")
    size = disk_bytes(home) + VERSION // 4
    make_room, made = eviction.make_room, SimpleQueue[None]()

    def make(*args: Any, **options: Any) -> bool:
        found = make_room(*args, **options)
        if made.empty():
            made.put(None)
            (home / "other").mkdir()
            (home / "other/file").write_bytes(filler)
        return found

    monkeypatch.setattr(eviction, "make_room", make)
    limit_writes(monkeypatch, home, size, "ENOSPC")
    monkeypatch.setattr(room, "free_bytes", lambda _: 1 << 40 if quota else RESERVE + size - disk_bytes(home))
    snapshot = fetch(f"{registry}/embedder", home, keep=1)
    assert (snapshot.version, snapshot.warnings) == (3, ())
    assert versions(home) == ["v2", "v3"]
    assert versions(home, "reranker") == ["v2"]


def test_room_that_another_process_has_just_made_is_used(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for seed in "ab":
        publish_build(registry, seed)
        fetch(f"{registry}/embedder", home, keep=2)
    publish_build(registry, "c")
    refused = limit_writes(monkeypatch, home, disk_bytes(home) + VERSION // 4, "ENOSPC")

    def make(model: ModelHome, *_: Any, **__: Any) -> bool:
        model.discard(find_snapshots(model.path)[0].path)
        return False

    monkeypatch.setattr(eviction, "make_room", make)
    snapshot = fetch(f"{registry}/embedder", home, keep=1)
    assert (snapshot.version, snapshot.warnings, len(refused)) == (3, (), 1)


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_a_quota_that_nothing_tells_of_is_met_by_one_eviction(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    home = tmp_path / "home"
    refused = limit_writes(monkeypatch, home, VERSION * 5 // 2, code)
    for number, seed in enumerate("abcd", 1):
        publish_build(registry, seed)
        assert fetch(f"{registry}/embedder", home, keep=1).version == number
    assert refused
    publish_build(registry, "e")
    versions_kept = fetch(f"{registry}/embedder", home, keep=3)
    assert (versions_kept.version, versions_kept.checked) == (4, "disk")
    assert "became full while embedder/v5 was written" in versions_kept.warnings[0]
    assert "modeldrop cache prune" in versions_kept.warnings[0]
