"""What is noticed of a snapshot that was touched, and verifying what other tools have copied."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.cli import main
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.status import read_status
from modeldrop.fetcher.verify import is_whole
from modeldrop.format.records import Seal, serialize_seal
from tests.helpers.builds import MODELS, contents, digest_of, publish_build

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.fetcher.snapshot import LocalSnapshot

GRAPH = MODELS["int8"]


@pytest.fixture
def home(registry: Path, tmp_path: Path) -> Path:
    """A home with v1, which is current, and shares files with no other."""
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", tmp_path / "home")
    return tmp_path / "home"


def current(home: Path) -> LocalSnapshot:
    [status] = read_status(home)
    assert status.snapshot is not None
    return status.snapshot


def flip(path: Path) -> None:
    """Change one bit, as a program does that writes: the size stays, the time does not."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[70_000 % len(data)] ^= 4
    path.write_bytes(data)
    path.chmod(before.st_mode)
    # However coarse the clock of the file system: it was later.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 2_000_000_000))


def verify(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[Any], str]:
    capsys.readouterr()
    code = main(["verify", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out or "[]"), said.err


@pytest.mark.parametrize("selector", ["", "@v1"])
def test_a_flipped_bit_is_noticed_and_repaired(registry: Path, home: Path, selector: str) -> None:
    snapshot = current(home)
    flip(snapshot.path / GRAPH)
    [status] = read_status(home)
    assert status.fault == f"{snapshot.path / GRAPH} does not have the digest that the manifest says."
    assert status.code() == 14
    found = fetch(f"{registry}/embedder{selector}", home)
    assert found.figures.fetched == len(contents("a")[GRAPH])
    assert (found.path / GRAPH).read_bytes() == contents("a")[GRAPH]
    [status] = read_status(home)
    assert status.fault == ""
    assert fetch(f"{registry}/embedder{selector}", home).figures.found_all


def test_what_was_only_touched_is_read_once(home: Path) -> None:
    snapshot = current(home)
    config = snapshot.path / "config.json"
    os.utime(config, ns=(0, config.stat().st_mtime_ns + 5_000_000_000))
    assert is_whole(snapshot)
    assert (snapshot.path / "manifest.json").stat().st_mtime_ns == config.stat().st_mtime_ns


def test_a_copy_with_other_times_is_whole(registry: Path, home: Path, tmp_path: Path) -> None:
    """``cp -r`` and buckets keep no times, and whatever is copied first is older."""
    shutil.copytree(home, tmp_path / "copy", symlinks=True, copy_function=shutil.copyfile)
    snapshot = current(tmp_path / "copy")
    os.utime(snapshot.path / "manifest.json", (1, 1))
    registry.rename(registry.with_name("gone"))
    assert fetch(f"{registry}/embedder", tmp_path / "copy").path == snapshot.path


def test_files_of_a_disk_whose_clock_was_ahead_are_not_taken_for_touched(registry: Path, home: Path) -> None:
    first = current(home)
    ahead = first.path.stat().st_mtime_ns + 10**15
    for path in first.path.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(ahead, ahead))
    fetch(f"{registry}/embedder", home, variant="fp32")  # links what both have
    [second] = [status.snapshot for status in read_status(home) if status.link == "current-fp32"]
    assert second is not None
    assert (second.path / "config.json").samefile(first.path / "config.json")
    assert (second.path / "manifest.json").stat().st_mtime_ns == ahead


def test_verifying_nothing_is_no_success(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, errors = verify(capsys, "-d", tmp_path / "nowhere")
    assert (code, found) == (5, [])
    assert f"{tmp_path}/nowhere holds no snapshots: nothing was verified." in errors
    shutil.rmtree(current(home).path)
    (home / "embedder/current").unlink()
    assert verify(capsys, "-d", home)[0] == 5
    assert verify(capsys, "-d", home, "embedder")[0] == 5


def test_a_file_that_does_not_belong_there_is_reported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = current(home)
    assert verify(capsys, "-d", home)[0] == 0
    (snapshot.path / "onnx/added_tokens.json").write_text("{}")
    (snapshot.path / "other").symlink_to("onnx")
    code, [found], errors = verify(capsys, "-d", home)
    assert code == 14
    assert sorted(found["damages"]) == [
        f"{snapshot.path}/{name} does not belong there." for name in ("onnx/added_tokens.json", "other")
    ]
    assert "of a file that does not belong there, remove that file." in errors


@pytest.fixture
def copied(registry: Path, tmp_path: Path) -> Path:
    """A registry as ``aws s3 sync`` copies it from a bucket: no links, no times, nothing hidden."""
    publish_build(registry, "a")
    publish_build(registry, "b")
    shutil.copytree(registry, tmp_path / "copy", copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(".*"))
    return tmp_path / "copy"


def test_a_copied_registry_is_verified_and_fetched_from(
    registry: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, number in (("embedder", 2), ("embedder@v1", 1), (f"embedder@{digest_of(registry, 2)}", 2)):
        code, [found], _ = verify(capsys, copied / what)
        assert (code, found["path"], found["whole"]) == (0, f"{copied}/embedder/v{number}", True)
        assert (found["digest"], found["variants"]) == (digest_of(registry, number), ["fp32", "int8"])
    assert fetch(f"{copied}/embedder", tmp_path / "home").version == 2
    assert verify(capsys, copied / "embedder@v3")[0] == 5
    assert verify(capsys, copied / "reranker")[0] == 5


@pytest.mark.parametrize("damage", ["flipped", "missing", "extra", "another manifest"])
def test_a_damaged_copy_is_reported(
    registry: Path, copied: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied / "embedder/v2"
    if damage == "flipped":
        flip(folder / MODELS["fp32"])
        said = f"{folder / MODELS['fp32']} does not have the digest that the manifest says."
    elif damage == "missing":
        (folder / GRAPH).unlink()
        said = f"{folder / GRAPH} is missing."
    elif damage == "extra":
        (folder / "tokenizer.py").touch()
        said = f"{folder}/tokenizer.py does not belong there."
    else:
        shutil.copyfile(folder.with_name("v1") / "manifest.json", folder / "manifest.json")
        said = f"has the digest {digest_of(registry, 1)}, not {digest_of(registry, 2)} as promised."
    code, _, errors = verify(capsys, copied / "embedder")
    assert code == 14
    assert said in errors


def test_a_pruned_version_is_no_damage(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal = Seal(at="2026-11-20T00:00:00Z", by="dana", why="old")
    (copied / "embedder/v1/manifest.json").write_bytes(serialize_seal(seal))
    code, _, errors = verify(capsys, copied / "embedder@v1")
    assert code == 5
    assert "embedder/v1 was pruned on 2026-11-20" in errors


def test_any_link_may_lead_to_a_snapshot(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = current(home).path
    (tmp_path / "link").symlink_to(snapshot)
    (home / "embedder/named").write_text(snapshot.name)
    for path in (tmp_path / "link", home / "embedder/named", home / "embedder/current"):
        code, [found], _ = verify(capsys, path)
        assert (code, found["path"]) == (0, str(snapshot))


def test_a_folder_that_was_copied_alone_is_verified(
    copied: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "embedder/v1").rename(tmp_path / "version")
    shutil.copytree(current(home).path, tmp_path / "snapshot", copy_function=shutil.copyfile)
    for name, variants in (("version", ["fp32", "int8"]), ("snapshot", ["int8"])):
        code, [found], _ = verify(capsys, tmp_path / name)
        assert (code, found["variants"]) == (0, variants)
    (tmp_path / "version" / GRAPH).unlink()
    assert verify(capsys, tmp_path / "version")[1][0]["variants"] == ["fp32"]
    (tmp_path / "snapshot" / GRAPH).unlink()
    assert verify(capsys, tmp_path / "snapshot")[0] == 14
