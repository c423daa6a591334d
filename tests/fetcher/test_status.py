from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.fetcher.fetch import Fetcher, fetch
from modeldrop.fetcher.notes import Quarantine, WatchNote, read_watch_note, write_quarantine, write_watch_note
from modeldrop.fetcher.options import Options
from modeldrop.fetcher.status import ChannelStatus, overall_code, read_status
from modeldrop.fetcher.watch.follower import Follower, Receiver
from modeldrop.format.reference import parse_reference
from modeldrop.registry.channels import promote
from modeldrop.storage.write.folder import FolderStore
from modeldrop.util.text import iso_time
from tests.helpers.builds import digest_of, open_to_all, publish_build, read_only, run_python, unprivileged
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def fetched(registry: Path, home: Path) -> Path:
    """A home with one model."""
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", home)
    return home


def only(home: Path) -> ChannelStatus:
    [status] = read_status(home)
    return status


def grow_old(home: Path, seconds: float) -> None:
    """The registry was last asked so long ago."""
    then = time.time() - seconds
    os.utime(home / "embedder/.state/current.json", (then, then))


def test_a_healthy_home(registry: Path, fetched: Path) -> None:
    status = only(fetched)
    folder = fetched / "embedder" / f"v1-int8-{digest_of(registry, 1)[7:19]}"
    assert (status.model, status.link, status.generation) == ("embedder", "current", 1)
    found = status.snapshot
    assert found is not None
    assert (found.version, found.variant, found.digest, found.path) == (1, "int8", digest_of(registry, 1), folder)
    assert status.age is not None
    assert 0 <= status.age < 3600
    assert (status.fault, status.error, status.quarantine) == ("", "", None)
    assert status.code() == status.code(60) == overall_code([status], 60) == 0
    ran = modeldrop("status", fetched, "--json")
    assert ran.code == 0
    assert ran.json["healthy"] is True
    assert ran.json["channels"][0] | {"age_seconds": 0} == status.to_json() | {"age_seconds": 0, "exit_code": 0}
    text = modeldrop("status", environment={"MODELDROP_HOME": str(fetched)})
    assert text.code == 0
    words = text.out.splitlines()[1].split()
    assert words[:5] + words[6:] == ["embedder", "current", "v1", "int8", "1", "s", "ago", "healthy"]


def test_nothing_there(home: Path) -> None:
    for path in (home, home / "below"):
        assert read_status(path) == []
    home.mkdir()
    assert overall_code(read_status(home)) == 5
    ran = modeldrop("status", home)
    assert (ran.code, ran.out) == (5, "")
    assert f"{home} holds no model" in ran.err
    assert modeldrop("status", home, "--json").json == {
        "home": str(home),
        "healthy": False,
        "exit_code": 5,
        "channels": [],
    }
    file = home / "file"
    file.touch()
    assert read_status(file) == []


def _lost_file(folder: Path) -> None:
    (folder / "config.json").unlink()


def _truncated(folder: Path) -> None:
    (folder / "onnx/model_quantized.onnx").chmod(0o644)
    os.truncate(folder / "onnx/model_quantized.onnx", 7)


def _changed_manifest(folder: Path) -> None:
    (folder / "manifest.json").chmod(0o644)
    (folder / "manifest.json").write_bytes(b"{}")


def _lost(folder: Path) -> None:
    shutil.rmtree(folder)


def _lost_link(folder: Path) -> None:
    (folder.parent / "current").unlink()


def _foreign_link(folder: Path) -> None:
    _lost_link(folder)
    (folder.parent / "current").symlink_to("/etc")


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (_lost_file, "config.json is missing."),
        (_truncated, "model_quantized.onnx has 7 bytes; the manifest says 131072."),
        (_changed_manifest, "manifest.json has the digest sha256:"),
        (_lost, "manifest.json is missing."),
        (_lost_link, "current is not there, though v1-int8-"),
        (_foreign_link, "current names no snapshot, but '/etc'."),
    ],
)
def test_damage(harm: Callable[[Path], None], fault: str, fetched: Path) -> None:
    found = only(fetched).snapshot
    assert found is not None
    harm(found.path)
    status = only(fetched)
    assert fault in status.fault
    assert status.code() == 14
    assert not status.to_json()["whole"]
    ran = modeldrop("status", fetched)
    assert ran.code == 14
    assert "damaged" in ran.out
    assert fault in ran.out


def test_old_information(fetched: Path) -> None:
    grow_old(fetched, 7200)
    assert modeldrop("status", fetched).code == 0
    assert modeldrop("status", fetched, "--max-age", "3h").code == 0
    ran = modeldrop("status", fetched, "--max-age", "1h")
    assert ran.code == 12
    assert ran.out.splitlines()[1].split()[-4:] == ["2.0", "h", "ago", "stale"]
    assert modeldrop("status", fetched, "--max-age", "1 hour").code == 2
    shutil.rmtree(fetched / "embedder/.state")  # as older releases left it: the link says when
    assert modeldrop("status", fetched, "--max-age", "1h").code == 0


def test_what_a_watch_learned(registry: Path, fetched: Path) -> None:
    grow_old(fetched, 7200)
    parsed = parse_reference(f"{registry}/embedder")
    receiver = Receiver(lambda _new, _old: None, resume=True)
    follower = Follower(lambda: Fetcher(parsed, fetched, Options()), receiver, lambda _event: None)
    assert follower.poll()
    assert (only(fetched).age or 0) < 3600
    (registry / "embedder/current").write_bytes(b"{")
    assert not follower.poll()
    follower.release()
    status = only(fetched)
    assert "is not JSON" in status.error
    assert status.code(3600) == 0
    then = time.time() - 7200
    for name in (".state", ".watch"):
        os.utime(fetched / "embedder" / name / "current.json", (then, then))
    assert only(fetched).code(3600) == 12
    text = modeldrop("status", fetched).out
    assert "using last good v1 (int8)" in text
    assert "is not JSON" in text


def test_that_the_last_good_version_is_in_use_is_said(registry: Path, fetched: Path) -> None:
    assert only(fetched).to_json()["last_good"] is None
    registry.rename(registry.with_name("away"))
    assert fetch(f"{registry}/embedder", fetched).checked == "disk"
    first = only(fetched).fallback
    assert first is not None
    fetch(f"{registry}/embedder", fetched)
    again = only(fetched)
    assert again.fallback == first  # since when, and not when it was last tried
    said = again.to_json()["last_good"]
    assert isinstance(said, dict)
    assert (said["registry_unreachable"], said["reason"]) == (True, first.error)
    text = modeldrop("status", fetched).out
    since = iso_time(first.since)
    assert f"embedder@current: using last good v1 (int8), registry unreachable since {since}: {first.error}" in text
    assert again.code() == 0
    fetch(f"{registry}/embedder", fetched, on_unavailable="offline")
    assert only(fetched).fallback == first  # nobody was asked

    registry.with_name("away").rename(registry)
    fetch(f"{registry}/embedder", fetched)
    assert only(fetched).fallback is None
    assert "last good" not in modeldrop("status", fetched).out
    (registry / "embedder/current").write_bytes(b"{")
    fetch(f"{registry}/embedder", fetched)
    assert "using last good v1 (int8), nothing newer could be used since" in modeldrop("status", fetched).out


def test_a_clock_that_was_ahead_when_a_watch_asked(registry: Path, fetched: Path) -> None:
    parsed = parse_reference(f"{registry}/embedder")
    ahead = time.time() + 7200

    def watched() -> Follower:
        receiver = Receiver(lambda _new, _old: None, resume=True)
        follower = Follower(lambda: Fetcher(parsed, fetched, Options()), receiver, lambda _event: None)
        follower.poll()
        follower.release()
        return follower

    watched()
    for name in (".state", ".watch"):
        os.utime(fetched / "embedder" / name / "current.json", (ahead, ahead))
    registry.rename(registry.with_name("away"))
    follower = watched()
    assert follower.snapshot is not None
    assert follower.snapshot.age is None
    assert only(fetched).code(3600) == 12
    registry.with_name("away").rename(registry)
    watched()
    assert only(fetched).code(3600) == 0


def test_a_watch_that_has_nothing_yet(registry: Path, home: Path) -> None:
    registry.mkdir()
    (home / "embedder").mkdir(parents=True)
    write_watch_note(home / "embedder", "current", WatchNote(error="no channel", failed_at=time.time() - 120))
    status = only(home)
    assert status.snapshot is None
    assert status.code() == 5
    assert status.error == "no channel"
    assert 120 <= status.error_seconds < 3600
    ran = modeldrop("status", home)
    assert ran.code == 5
    assert "nothing there" in ran.out
    assert "no channel" in ran.out


def test_a_quarantine_is_shown(fetched: Path) -> None:
    held = Quarantine(
        version=2, digest=f"sha256:{'0' * 64}", generation=2, reason="it does not load.", at="2026-01-02T03:04:05Z"
    )
    write_quarantine(fetched / "embedder", "current", held)
    assert only(fetched).quarantine == held
    ran = modeldrop("status", fetched)
    assert ran.code == 0
    assert "v2 (generation 2) is in quarantine since 2026-01-02T03:04:05Z: it does not load." in ran.out


@pytest.mark.parametrize("name", [".quarantine", ".watch", ".state", ".fallback"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "x"}', b" " * (1 << 17)])
def test_a_note_that_cannot_be_read_is_none(name: str, content: bytes, fetched: Path) -> None:
    (fetched / "embedder" / name).mkdir(exist_ok=True)
    (fetched / "embedder" / name / "current.json").write_bytes(content)
    status = only(fetched)
    assert (status.quarantine, status.error) == (None, "")
    assert status.code(3600) == 0


def test_every_link_is_told(registry: Path, fetched: Path) -> None:
    publish_build(registry, "b", model="reranker")
    promote(FolderStore(str(registry)), "embedder", 1, "staging", by="dana")
    for reference in ("embedder@staging", "reranker@v1"):
        fetch(f"{registry}/{reference}", fetched)
    fetch(f"{registry}/embedder", fetched, variant="fp32")
    found = read_status(fetched)
    assert [(status.model, status.link, status.snapshot and status.snapshot.variant) for status in found] == [
        ("embedder", "current", "int8"),
        ("embedder", "current-fp32", "fp32"),
        ("embedder", "staging", "int8"),
        ("reranker", None, "int8"),
    ]
    assert overall_code(found, 3600) == 0  # a pinned version cannot be old
    assert found[3].snapshot is not None
    _lost_file(found[3].snapshot.path)
    assert overall_code(read_status(fetched), 3600) == 14


def test_only_the_disk_is_read_and_nothing_written(registry: Path, fetched: Path) -> None:
    shutil.rmtree(registry)
    with read_only(fetched):
        assert modeldrop("status", fetched).code == 0


def test_a_home_that_may_not_be_read(fetched: Path) -> None:
    open_to_all(fetched.parent)
    fetched.chmod(0)
    try:
        program = "import sys; from modeldrop.cli import main; print(main(['status', sys.argv[1]]))"
        assert run_python(program, fetched, user=unprivileged()) == "15"
    finally:
        fetched.chmod(0o755)


def test_notes_survive_being_written_and_read(home: Path) -> None:
    assert read_watch_note(home, "current") == WatchNote()
    home.mkdir()
    note = WatchNote(error="why", failed_at=12.0, answered=34.0)
    write_watch_note(home, "current", note)
    assert read_watch_note(home, "current") == note
    assert json.loads((home / ".watch/current.json").read_bytes())["told"] is None
    found: Any = list((home / ".watch").iterdir())
    assert len(found) == 1
