"""What is put on disk and what is found there: names, renamed files, reuse of what other snapshots have, full disks."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from modeldrop.errors import DiskError, FormatError, RegistryError
from modeldrop.fetcher.download.download import download
from modeldrop.fetcher.home import ModelHome, find_snapshots
from modeldrop.fetcher.layout import PLAIN, Layout
from modeldrop.fetcher.options import time_limit
from modeldrop.fetcher.snapshot import LocalSnapshot, folder_name
from modeldrop.fetcher.verify import find_damage
from modeldrop.format.manifest import parse_manifest, serialize_manifest
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import (
    MODELS,
    PIECE,
    SHARED,
    build_key,
    contents,
    describe,
    digest_of,
    make_build,
    publish_build,
    publish_folder,
    run_python,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANSWERS = sum(len(contents("a")[path]) for path in SHARED)
GRAPH = len(contents("a")[MODELS["int8"]])


@pytest.fixture
def home(tmp_path: Path) -> ModelHome:
    return ModelHome(tmp_path / "home", "embedder")


class Downloaded(NamedTuple):
    path: Path
    fetched: int = 0
    adopted: int = 0
    linked: int = 0


def damages(folder: Path) -> list[str]:
    return list(find_damage(LocalSnapshot(folder), read_files=True))


def bring(
    registry: Path,
    home: ModelHome,
    number: int = 1,
    *,
    variant: str = "int8",
    rename: Mapping[str, str] | None = None,
    seen: list[tuple[int, int]] | None = None,
) -> Downloaded:
    data = (registry / f"{home.path.name}/v{number}/manifest.json").read_bytes()
    manifest = parse_manifest(data)
    chosen = manifest.variant(variant)
    assert chosen is not None

    def progress(done: int, total: int) -> None:
        if seen is not None:
            seen.append((done, total))

    renamed = {old: new for old, new in (rename or {}).items() if old != new}
    snapshot, stats, _ = download(
        open_reader(str(registry)), home, number, data, manifest, chosen,
        renamed=renamed, deadline=time_limit(600), progress=progress,
    )  # fmt: skip
    return Downloaded(snapshot.path, stats.fetched, stats.adopted, stats.linked)


def republish(registry: Path, folder: Path, old: str, changed: Mapping[str, bytes]) -> None:
    """Publish the build ``old`` again with other contents of some files: a new version that shares the rest."""
    manifest = make_build(folder, old)
    files = []
    for file in manifest.files:
        if file.path in changed:
            (folder / file.path).write_bytes(changed[file.path])
            files.append(describe(file.path, changed[file.path]))
        else:
            files.append(file)
    again = manifest._replace(files=tuple(files), build_key=build_key(folder.name))
    (folder / "manifest.json").write_bytes(serialize_manifest(again))
    publish_folder(FolderStore(str(registry)), "embedder", folder, adopt_seconds=1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v2-int8-3f9a1c2b4d5e", (2, "int8", "3f9a1c2b4d5e", "")),
        ("v10-int8-avx512-vnni-3f9a1c2b4d5e", (10, "int8-avx512-vnni", "3f9a1c2b4d5e", "")),
        ("v2-int8-3f9a1c2b4d5e+01234567", (2, "int8", "3f9a1c2b4d5e", "+01234567")),
        ("v2-int8-3f9a1c2b4d5", None),
        ("v0-int8-3f9a1c2b4d5e", None),
        ("int8-3f9a1c2b4d5e", None),
        (".partial", None),
        ("current", None),
    ],
)
def test_names_of_folders(name: str, said: tuple[int, str, str, str] | None) -> None:
    if said is None:
        with pytest.raises(FormatError, match="is not called as a snapshot is"):
            LocalSnapshot(Path("/home") / name)
        return
    found = LocalSnapshot(Path("/home") / name)
    assert (found.version, found.variant, found.short_digest, found.suffix) == said
    assert folder_name(*said) == name


def test_a_file_that_is_given_another_name(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    digest = digest_of(registry, 1)
    plain = bring(registry, home)
    renamed = bring(registry, home, rename={MODELS["int8"]: "onnx/model.onnx"})
    assert plain.path.name == f"v1-int8-{digest[7:19]}"
    assert re.fullmatch(rf"v1-int8-{digest[7:19]}\+[0-9a-f]{{8}}", renamed.path.name)
    assert (renamed.path / "onnx/model.onnx").read_bytes() == contents("a")[MODELS["int8"]]
    assert not (renamed.path / MODELS["int8"]).exists()
    assert (renamed.path / "onnx/model.onnx").samefile(plain.path / MODELS["int8"])
    assert damages(renamed.path) == []
    for name, layout in (
        (plain, PLAIN),
        (renamed, Layout(as_name="onnx/model.onnx")),
        (renamed, Layout(consumer="tei")),
        (plain, Layout(as_name=MODELS["int8"])),
    ):
        held = home.find(1, digest, None, layout=layout)
        assert held is not None
        assert held.path == name.path
        assert held.renamed == ({MODELS["int8"]: "onnx/model.onnx"} if name is renamed else {})
    assert home.find(1, digest, "int8", layout=Layout(as_name="onnx/other.onnx")) is None
    assert bring(registry, home, rename={MODELS["int8"]: "onnx/model.onnx"}) == Downloaded(renamed.path)
    assert bring(registry, home, rename={MODELS["int8"]: MODELS["int8"]}) == Downloaded(plain.path)


def test_a_renamed_file_is_fetched_by_its_own_name(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    renamed = bring(registry, home, rename={MODELS["int8"]: "deep/er/model.onnx"})
    assert renamed.fetched == ANSWERS + GRAPH
    assert (renamed.path / "deep/er/model.onnx").read_bytes() == contents("a")[MODELS["int8"]]
    (renamed.path / ".modeldrop.json").chmod(0o644)
    (renamed.path / ".modeldrop.json").write_text('{"renamed": {}}')
    with pytest.raises(FormatError, match="note of renamed files"):
        _ = LocalSnapshot(renamed.path).renamed
    assert home.find(1, None, None, layout=Layout(as_name="deep/er/model.onnx")) is None


def test_what_a_killed_attempt_left_is_proven_and_used(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    digest = digest_of(registry, 1)
    left = home.staging_folder("int8", digest, {}) / "0123456789abcdef"
    (left / "onnx").mkdir(parents=True)
    graph = contents("a")[MODELS["int8"]]
    (left / MODELS["int8"]).write_bytes(graph[:PIECE] + bytes(PIECE))  # its second piece never came
    (left / "config.json").write_bytes(b'{"model_type": "evil"}\n')  # as long as the right one
    (left / "stray").write_bytes(b"of an older release")
    seen: list[tuple[int, int]] = []
    done = bring(registry, home, seen=seen)
    assert (done.adopted, done.fetched) == (PIECE, ANSWERS + PIECE)
    assert seen[-1] == (ANSWERS + GRAPH, ANSWERS + GRAPH)
    assert damages(done.path) == []
    assert not (done.path / "stray").exists()
    assert list((home.path / ".partial").iterdir()) == []


def test_an_attempt_that_failed_is_gone_on_with(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    config = registry / "embedder/v1/config.json"
    config.rename(registry / "config.json")
    with pytest.raises(RegistryError):
        bring(registry, home)
    (registry / "config.json").rename(config)
    done = bring(registry, home)
    assert done.adopted + done.fetched == ANSWERS + GRAPH
    assert damages(done.path) == []


def test_files_of_another_version_are_linked(registry: Path, home: ModelHome, tmp_path: Path) -> None:
    publish_build(registry, "a")
    first = bring(registry, home)
    republish(registry, tmp_path / "again", "a", {"config.json": b'{"model_type": "xlm"}\n'})
    seen: list[tuple[int, int]] = []
    second = bring(registry, home, 2, seen=seen)
    assert (second.path / MODELS["int8"]).samefile(first.path / MODELS["int8"])
    changed = len(b'{"model_type": "xlm"}\n')
    assert second.fetched == changed
    assert second.linked == GRAPH + len(contents("a")[SHARED[1]])
    assert seen[-1][0] == seen[-1][1] == second.fetched + second.linked
    assert damages(second.path) == []


def test_files_of_another_variant_and_another_model_are_linked(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    publish_build(registry, "a", model="reranker")
    full = bring(registry, home, variant="fp32")
    other = ModelHome(home.path.parent, "reranker")
    linked = bring(registry, other, variant="fp32")
    assert linked.fetched == 0
    assert (linked.path / MODELS["fp32"]).samefile(full.path / MODELS["fp32"])
    assert bring(registry, home).linked == ANSWERS


@pytest.mark.parametrize("damage", ["flipped", "writable", "missing"])
def test_what_is_reused_has_proven_its_digest(registry: Path, home: ModelHome, tmp_path: Path, damage: str) -> None:
    publish_build(registry, "a")
    first = bring(registry, home)
    republish(registry, tmp_path / "again", "a", {"config.json": b'{"model_type": "xlm"}\n'})
    graph = first.path / MODELS["int8"]
    if damage == "missing":
        graph.unlink()
    else:
        graph.chmod(0o644)
    if damage == "flipped":
        data = bytearray(graph.read_bytes())
        data[5] ^= 1
        graph.write_bytes(data)
        graph.chmod(0o444)
    second = bring(registry, home, 2)
    assert (second.path / MODELS["int8"]).read_bytes() == contents("a")[MODELS["int8"]]
    assert (second.path / MODELS["int8"]).stat().st_nlink == 1
    assert (second.linked > GRAPH) == (damage == "writable")  # copied, not linked: somebody may write into it


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_what_cannot_be_linked_is_copied(
    registry: Path, home: ModelHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    publish_build(registry, "a")
    bring(registry, home)
    republish(registry, tmp_path / "again", "a", {"config.json": b'{"model_type": "xlm"}\n'})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.link", refuse)
    if code == errno.EMLINK:
        monkeypatch.delattr("os.copy_file_range")
    second = bring(registry, home, 2)
    assert second.linked == GRAPH + len(contents("a")[SHARED[1]])
    assert second.fetched == len(b'{"model_type": "xlm"}\n')
    assert (second.path / MODELS["int8"]).stat().st_nlink == 1
    assert damages(second.path) == []


@pytest.fixture
def other_disk() -> Iterator[Path | None]:
    """A folder on another file system; None where there is none."""
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK):
        yield None
        return
    own = tempfile.mkdtemp(prefix="modeldrop-test-", dir=folder)
    yield Path(own)
    subprocess.run(["rm", "-r", own], check=True)


def test_a_home_whose_models_are_on_two_disks(registry: Path, home: ModelHome, other_disk: Path | None) -> None:
    publish_build(registry, "a")
    publish_build(registry, "a", model="reranker")
    first = bring(registry, home)
    other = ModelHome(home.path.parent, "reranker")
    if other_disk is None:
        other.path.mkdir()
    else:
        other.path.symlink_to(other_disk)
    second = bring(registry, other)
    assert damages(second.path) == []
    assert (second.linked, second.fetched) == (ANSWERS + GRAPH, 0)
    assert other_disk is None or second.path.stat().st_dev != first.path.stat().st_dev


def test_a_damaged_snapshot_makes_room(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    first = bring(registry, home)
    (first.path / MODELS["int8"]).unlink()
    again = bring(registry, home)
    assert again.path == first.path
    assert again.fetched == GRAPH
    assert damages(again.path) == []
    assert list((home.path / ".partial").iterdir()) == []


def test_a_file_in_the_place_of_the_snapshot(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    target = home.folder(1, "int8", digest_of(registry, 1), {})
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    with pytest.raises(NotADirectoryError):
        bring(registry, home)
    assert target.read_text() == "mine"


TOO_LARGE = """
import errno, os, sys
from modeldrop.errors import DiskError
from modeldrop.fetcher.fetch import fetch
write = os.pwrite
written = []
def full(descriptor, data, offset):
    written.append(offset)
    if len(written) > 1:
        raise OSError(getattr(errno, sys.argv[3]), os.strerror(getattr(errno, sys.argv[3])))
    return write(descriptor, data, offset)
os.pwrite = full
try:
    fetch(sys.argv[1], sys.argv[2], on_unavailable="fail")
except DiskError as error:
    print(error)
"""


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_a_disk_that_becomes_full(registry: Path, home: ModelHome, code: str) -> None:
    publish_build(registry, "a")
    first = bring(registry, home)
    home.link("current", first.path)
    before = tree(first.path)
    publish_build(registry, "b")
    said = run_python(TOO_LARGE, f"{registry}/embedder", home.path.parent, code)
    assert re.match(rf"{home.path} became full while embedder/v2 was written \(.*\): it needs .* are free\.", said)
    assert "What has come is kept and gone on with; the snapshot in use is untouched." in said
    assert (home.path / "current").resolve() == first.path
    assert tree(first.path) == before
    second = bring(registry, home, 2)
    assert second.adopted + second.fetched + second.linked == ANSWERS + GRAPH
    assert damages(second.path) == []


def test_too_little_room_is_said_before_anything_is_fetched(
    registry: Path, home: ModelHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a")
    monkeypatch.setattr("modeldrop.fetcher.download.room._RESERVE", 1 << 60)
    with pytest.raises(DiskError, match=rf"{home.path} has too little room for embedder/v1: it needs 131\.1 kB and "):
        bring(registry, home)
    assert find_snapshots(home.path) == []
    monkeypatch.undo()
    publish_build(registry, "a", model="reranker")
    bring(registry, home)
    monkeypatch.setattr("modeldrop.fetcher.download.room._RESERVE", 1 << 60)
    linked = bring(registry, ModelHome(home.path.parent, "reranker"))  # needs no room
    assert linked.linked == ANSWERS + GRAPH


def test_leftovers_are_swept_after_a_day_unless_locked(registry: Path, home: ModelHome) -> None:
    publish_build(registry, "a")
    bring(registry, home)
    partial = home.path / ".partial"
    now = time.time()
    for name, hours in (("old", 25), ("young", 23), ("locked", 25), ("trash-0", 0)):
        (partial / name / "work").mkdir(parents=True)
        os.utime(partial / name, (now - hours * 3600,) * 2)
    descriptor = os.open(partial / "locked" / "lock", os.O_RDWR | os.O_CREAT)
    os.utime(partial / "locked", (now - 25 * 3600,) * 2)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    home.sweep(now)
    assert {path.name for path in partial.iterdir()} == {"young", "locked"}
    os.close(descriptor)
    os.utime(partial / "locked", (now - 25 * 3600,) * 2)
    home.sweep(now)
    assert {path.name for path in partial.iterdir()} == {"young"}
