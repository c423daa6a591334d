"""The layer of an image: read back by tarfile, and the same bytes for ever."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import IntegrityError, RefusedError
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.snapshot import LocalSnapshot, Snapshot
from modeldrop.format.manifest import serialize_manifest
from modeldrop.oci.blobs import Blob, blob_of
from modeldrop.oci.contents import Entry, entries_of
from modeldrop.oci.layer import layer_of
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import contents, make_build, publish_folder

LONG = "a folder/" * 12 + "größe 漢字.json"


def layer(files: dict[str, bytes]) -> Blob:
    return layer_of(tuple(Entry(path, blob_of(data)) for path, data in sorted(files.items())), lambda _: None)


def members(blob: Blob) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    data = b"".join(blob.read())
    assert (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) == (blob.digest, blob.size)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return {one.name: (one, archive.extractfile(one).read() if one.isfile() else b"") for one in archive}  # type: ignore[union-attr]


def test_the_bytes_never_change() -> None:
    # Whoever changes this makes every exported tag name something else than the same version exported again.
    files = {"config.json": b"{}\n", "onnx/model.onnx": bytes(range(256)) * 5, "empty.txt": b"", LONG: b"x"}
    assert layer(files).digest == "sha256:92f863ba62750ecdbfc419eb5586c89b12a04af5ad892420ed8d36c97b8eb776"


def test_everything_is_roots_and_of_no_time() -> None:
    found = members(layer({"a/b.onnx": b"weights", LONG: b"x"}))
    folders = ["/".join(LONG.split("/")[:depth]) for depth in range(1, 13)]
    assert [*found] == sorted(
        ["models", "models/a", "models/a/b.onnx", f"models/{LONG}", *(f"models/{f}" for f in folders)]
    )
    for one, _ in found.values():
        assert (one.uid, one.gid, one.uname, one.gname, one.mtime) == (0, 0, "", "", 0)
        assert one.mode == (0o755 if one.isdir() else 0o444)
        assert one.isdir() or one.isreg()


_PART = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=60)
_PATHS = st.lists(_PART.filter(lambda part: part not in {".", ".."}), min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(_PATHS, st.binary(max_size=1500), max_size=5))
def test_tarfile_reads_what_was_written(files: dict[str, bytes]) -> None:
    folders = {path[:at] for path in files for at, char in enumerate(path) if char == "/"}
    files = {path: data for path, data in files.items() if path not in folders}
    found = members(layer(files))
    assert {name: data for name, (one, data) in found.items() if one.isreg()} == {
        f"models/{path}": data for path, data in files.items()
    }


def test_a_file_of_more_than_eight_gib_is_described() -> None:
    size = (8 << 30) + 1
    entry = Entry("onnx/model.onnx_data", Blob("sha256:" + "0" * 64, size, lambda: iter((b"",))))
    stream = layer_of((entry,), lambda _: None).read()
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream)), mode="r:") as archive:
        found = [archive.next() for _ in range(3)][-1]
    assert found is not None
    assert (found.name, found.size, found.isreg()) == ("models/onnx/model.onnx_data", size, True)


@pytest.fixture
def snapshot(source: str, tmp_path: Path) -> Snapshot:
    return fetch(source, tmp_path / "home", variant="int8")


def test_the_layer_is_what_fetch_puts_on_the_disk(snapshot: Snapshot) -> None:
    found = members(layer_of(entries_of(LocalSnapshot(snapshot.path)), lambda _: None))
    on_disk = {
        f"models/{path.relative_to(snapshot.path).as_posix()}": path.read_bytes()
        for path in snapshot.path.rglob("*")
        if path.is_file()
    }
    assert {name: data for name, (one, data) in found.items() if one.isreg()} == on_disk
    assert f"models/{'onnx/model_quantized.onnx'}" in on_disk


def damage(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def _damages() -> Iterator[tuple[str, bytes]]:
    data = contents("a")["onnx/model_quantized.onnx"]
    yield "does not have the digest", data[:-1] + bytes([data[-1] ^ 1])
    yield "is shorter", data[:-1]
    yield "is longer", data + b"x"


@pytest.mark.parametrize(("says", "data"), list(_damages()), ids=["flipped", "shorter", "longer"])
def test_a_damaged_file_is_never_packed(snapshot: Snapshot, says: str, data: bytes) -> None:
    entries = entries_of(LocalSnapshot(snapshot.path))
    damage(snapshot.model_file, data)
    with pytest.raises(IntegrityError, match=f"model_quantized.onnx {says}"):
        layer_of(entries, lambda _: None)


def test_a_missing_file_and_a_changed_manifest_are_told(snapshot: Snapshot) -> None:
    entries = entries_of(LocalSnapshot(snapshot.path))
    snapshot.model_file.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        layer_of(entries, lambda _: None)
    damage(snapshot.path / "manifest.json", (snapshot.path / "manifest.json").read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="was changed"):
        entries_of(LocalSnapshot(snapshot.path))


def test_a_name_that_would_remove_files_is_refused(registry: Path, tmp_path: Path) -> None:
    build, name = tmp_path / "build", ".wh.config.json"
    manifest = make_build(build, variants=["int8"])
    (build / "config.json").rename(build / name)
    text = serialize_manifest(manifest).replace(b'"config.json"', f'"{name}"'.encode())
    (build / "manifest.json").write_bytes(text)
    publish_folder(FolderStore(str(registry)), "embedder", build)
    snapshot = fetch(f"{registry}/embedder@v1", tmp_path / "home")
    with pytest.raises(RefusedError, match=re.escape(name)):
        entries_of(LocalSnapshot(snapshot.path))
