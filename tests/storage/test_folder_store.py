from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.cli import main
from modeldrop.errors import ConflictError, DiskError, IntegrityError, RegistryError
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import (
    PIECE,
    as_store,
    describe,
    open_to_all,
    publish_build,
    read_only,
    run_python,
    start,
    tree,
    unprivileged,
)
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "embedder/current"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(str(tmp_path / "registry"))


def get(store: FolderStore, key: str = KEY) -> tuple[bytes, str]:
    stored = store.get(key)
    assert stored is not None
    return stored.data, stored.tag


def leftovers(store: FolderStore) -> list[Path]:
    return list(Path(store.url).rglob(".tmp/*"))


def test_it_is_a_store(store: FolderStore) -> None:
    assert as_store(store) is store


def test_nothing_is_there_at_first_and_reading_makes_nothing(store: FolderStore) -> None:
    assert store.get(KEY) is None
    assert not store.exists(KEY)
    assert store.names("") == store.names("embedder") == []
    assert not Path(store.url).exists()


def test_create_only_keeps_the_first_bytes(store: FolderStore) -> None:
    store.create("embedder/v1/claim.json", b"first")
    with pytest.raises(ConflictError, match=r"embedder/v1/claim\.json"):
        store.create("embedder/v1/claim.json", b"second")
    assert get(store, "embedder/v1/claim.json")[0] == b"first"
    assert store.exists("embedder/v1/claim.json")
    assert leftovers(store) == []


def test_swap_needs_the_tag_of_what_is_there(store: FolderStore) -> None:
    store.swap(KEY, b"one", None)
    with pytest.raises(ConflictError):
        store.swap(KEY, b"again", None)
    data, first = get(store)
    assert data == b"one"
    store.swap(KEY, b"two", first)
    with pytest.raises(ConflictError):
        store.swap(KEY, b"three", first)
    data, second = get(store)
    assert (data, (Path(store.url) / KEY).read_bytes()) == (b"two", b"two")
    assert first != second
    assert leftovers(store) == []


def test_swap_replaces_what_create_made(store: FolderStore) -> None:
    store.create(KEY, b"one")
    with pytest.raises(ConflictError):
        store.swap(KEY, b"two", None)
    store.swap(KEY, b"two", get(store)[1])
    assert get(store)[0] == b"two"
    with pytest.raises(ConflictError):
        store.create(KEY, b"three")


def test_the_same_bytes_swapped_back_have_another_tag(store: FolderStore) -> None:
    store.swap(KEY, b"one", None)
    tag = get(store)[1]
    store.swap(KEY, b"two", tag)
    store.swap(KEY, b"one", get(store)[1])
    with pytest.raises(ConflictError):
        store.swap(KEY, b"three", tag)


@pytest.mark.parametrize("lagging", [b"one", None, b"scribbled over"])
def test_an_object_that_lags_behind_its_moves_is_mended(store: FolderStore, lagging: bytes | None) -> None:
    store.swap(KEY, b"one", None)
    store.swap(KEY, b"two", get(store)[1])
    # A writer was killed between the link that commits and the replacement of the object.
    target = Path(store.url) / KEY
    target.unlink()
    if lagging is not None:
        target.write_bytes(lagging)
    data, tag = get(store)
    assert (data, target.read_bytes()) == (b"two", b"two")
    store.swap(KEY, b"three", tag)
    assert target.read_bytes() == b"three"


def test_a_reader_without_the_right_to_write_gets_the_truth(store: FolderStore, tmp_path: Path) -> None:
    store.swap(KEY, b"one", None)
    store.swap(KEY, b"two", get(store)[1])
    (Path(store.url) / KEY).write_bytes(b"one")
    open_to_all(tmp_path)
    program = (
        "import sys; from modeldrop.storage.write.folder import FolderStore; s = FolderStore(sys.argv[1]);"
        "print(s.get('embedder/current').data.decode(), s.exists('embedder/current'), s.names('embedder'))"
    )
    with read_only(Path(store.url)):
        before = tree(Path(store.url))
        assert run_python(program, store.url, user=unprivileged()) == "two True ['current']"
        assert tree(Path(store.url)) == before


def test_names_are_those_of_objects_and_prefixes_without_hidden_ones(store: FolderStore) -> None:
    store.create("embedder/v2/claim.json", b"")
    store.swap(KEY, b"one", None)
    store.create("embedder/builds/00.json", b"")
    assert store.names("embedder") == ["builds", "current", "v2"]
    assert store.names("") == ["embedder"]
    assert (Path(store.url) / "embedder" / ".moves").is_dir()
    keys = ["embedder/builds/00.json", "embedder/current", "embedder/v2/claim.json"]
    for prefix in ("", "embedder", "embedder/"):
        assert [listed.key for listed in store.objects(prefix)] == keys
    assert [listed.key for listed in store.objects("embedder/v2/")] == keys[2:]


def test_an_upload_is_checked_and_appears_whole_or_not_at_all(store: FolderStore, tmp_path: Path) -> None:
    source = tmp_path / "modèle 1.onnx"
    source.write_bytes(b"weights" * 500_000)
    file = describe("modèle 1.onnx", source.read_bytes())
    counted: list[int] = []
    store.upload("m/v1/modèle 1.onnx", source, file, PIECE, counted.append)
    assert (Path(store.url) / "m/v1/modèle 1.onnx").read_bytes() == source.read_bytes()
    assert sum(counted) == file.size
    assert len(counted) > 1
    with pytest.raises(ConflictError):
        store.upload("m/v1/modèle 1.onnx", source, file, PIECE, counted.append)
    for changed in (b"weighty" * 500_000, b"weights" * 499_999, b""):
        source.write_bytes(changed)
        with pytest.raises(IntegrityError, match="changed while it was published"):
            store.upload("m/v2/modèle 1.onnx", source, file, PIECE, counted.append)
    source.unlink()
    with pytest.raises(IntegrityError, match="No such file"):
        store.upload("m/v2/modèle 1.onnx", source, file, PIECE, counted.append)
    assert not store.exists("m/v2/modèle 1.onnx")
    assert leftovers(store) == []


def test_what_crashed_writers_left_is_swept_after_a_day(store: FolderStore) -> None:
    store.create("embedder/v1/claim.json", b"")
    old, young = (Path(store.url) / "embedder" / ".tmp" / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"left behind")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    store.create("embedder/v2/claim.json", b"")
    assert leftovers(store) == [young]


def test_a_folder_that_may_not_be_written_is_named_with_the_user(store: FolderStore, tmp_path: Path) -> None:
    store.create("embedder/v1/claim.json", b"")
    open_to_all(tmp_path)
    program = """
import os, sys
from modeldrop.errors import RegistryError
from modeldrop.storage.write.folder import FolderStore
s = FolderStore(sys.argv[1])
for write in (
    lambda: s.create("embedder/v2/claim.json", b""),
    lambda: s.swap("embedder/current", b"", None),
    lambda: s.check_writable(1),
    lambda: s.create("other/v1/claim.json", b""),
):
    try:
        write()
    except RegistryError as error:
        assert f"uid {os.geteuid()}" in error.hint and sys.argv[1] in error.message, error
    else:
        raise SystemExit("it was written")
"""
    with read_only(Path(store.url)):
        run_python(program, store.url, user=unprivileged())
    assert store.names("") == ["embedder"]
    assert store.names("embedder") == ["v1"]


def test_a_folder_that_may_not_be_read_is_an_error_not_an_empty_registry(store: FolderStore, tmp_path: Path) -> None:
    store.create(KEY, b"one")
    open_to_all(tmp_path)
    (Path(store.url) / "embedder").chmod(0o700 if unprivileged() else 0)
    program = """
import sys
from modeldrop.errors import RegistryError
from modeldrop.storage.write.folder import FolderStore
s = FolderStore(sys.argv[1])
for read in (s.get, s.exists, s.names):
    try:
        found = read("embedder/current" if read != s.names else "embedder")
    except RegistryError as error:
        assert "Permission denied" in error.message, error
    else:
        raise SystemExit(f"{read} gave {found}")
"""
    try:
        run_python(program, store.url, user=unprivileged())
    finally:
        (Path(store.url) / "embedder").chmod(0o755)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB; None is made where this user may not mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield tmp_path / "no-mount"
        return
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk: Path, tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from modeldrop.errors import DiskError
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import PIECE, describe
registry, source = sys.argv[1:]
store = FolderStore(registry)
store.swap("m/current", b"one", None)
if "no-mount" in registry:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
data = Path(source).read_bytes()
for write in (
    lambda: store.create("m/v1/claim.json", data),
    lambda: store.swap("m/current", data, store.get("m/current").tag),
    lambda: store.upload("m/v1/model.onnx", Path(source), describe("model.onnx", data), PIECE, lambda count: None),
):
    try:
        write()
    except DiskError as error:
        assert "is full" in error.message and registry in error.message, error
    else:
        raise SystemExit("it was written")
assert store.get("m/current").data == (Path(registry) / "m/current").read_bytes() == b"one"
assert not store.exists("m/v1/claim.json") and not store.exists("m/v1/model.onnx")
assert list(Path(registry).rglob(".tmp/*")) == []
store.swap("m/current", b"two", store.get("m/current").tag)
"""
    source = tmp_path / "big"
    source.write_bytes(b"x" * 400_000)
    run_python(program, small_disk, source)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_built(store: FolderStore) -> None:
    store.check_writable(1)
    with pytest.raises(DiskError, match="MB free; this version needs about"):
        store.check_writable(1 << 60)
    assert list(Path(store.url).iterdir()) == []


@pytest.mark.parametrize("file", ["registry", "registry/embedder", "registry/embedder/v1"])
def test_a_file_in_place_of_a_folder(store: FolderStore, tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("in the way")
    with pytest.raises(RegistryError, match=re.escape(str(tmp_path / "registry"))):
        store.create("embedder/v1/claim.json", b"")
    assert store.get("embedder/v1/claim.json") is None
    assert (tmp_path / file).read_text() == "in the way"


def test_a_disk_error_by_its_number(store: FolderStore, tmp_path: Path) -> None:
    # Names too long for the disk are an error of reading and writing like any other.
    with pytest.raises(RegistryError, match=os.strerror(errno.ENAMETOOLONG)):
        store.create(f"embedder/{'x' * 300}", b"")


def test_a_writer_that_is_stopped_while_others_move_on_never_takes_the_object_back(store: FolderStore) -> None:
    """Many swaps at once, then the object is what the last move says."""
    program = """
import sys
from modeldrop.cli import main
from modeldrop.errors import ConflictError
from modeldrop.storage.write.folder import FolderStore
s = FolderStore(sys.argv[1])
done = 0
while done < 15:
    stored = s.get("embedder/current")
    try:
        s.swap("embedder/current", sys.argv[2].encode() + str(done).encode(), stored and stored.tag)
    except ConflictError:
        continue
    done += 1
"""
    processes = [start(program, store.url, name) for name in "abcd"]
    for process in processes:
        _, errors = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, errors
    moves = Path(store.url) / "embedder" / ".moves" / "current"
    assert {path.name for path in moves.iterdir()} == {f"{number}.json" for number in range(1, 61)}
    assert (Path(store.url) / KEY).read_bytes() == (moves / "60.json").read_bytes()


def test_a_version_on_disk_is_plain_files(tmp_path: Path) -> None:
    publish_build(tmp_path / "registry", "a")
    found = {path.name for path in (tmp_path / "registry" / "embedder").iterdir()}
    assert found == {"v1", "builds", "current", ".moves", ".tmp"}


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on exFAT, which not everybody may mount: ``tests/soak/test_volumes.py`` does."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.link", refuse)


@pytest.mark.usefixtures("no_hard_links")
def test_without_hard_links_nothing_is_published(store: FolderStore) -> None:
    with pytest.raises(RegistryError, match="has no hard links, so nothing can be created there only once") as caught:
        store.create(KEY, b"one")
    assert f"modeldrop mirror REFERENCE {store.url}" in str(caught.value)
    assert store.get(KEY) is None
    assert leftovers(store) == []


@pytest.mark.usefixtures("no_hard_links")
def test_a_carrier_without_hard_links_keeps_the_promises_to_one_writer(store: FolderStore, tmp_path: Path) -> None:
    carrier = FolderStore(store.url, carrier=True)
    carrier.create(KEY, b"one")
    with pytest.raises(ConflictError):
        carrier.create(KEY, b"other")
    assert get(carrier) == (b"one", "0")
    carrier.swap(KEY, b"two", "0")
    for tag in ("0", None, "7"):
        with pytest.raises(ConflictError):
            carrier.swap(KEY, b"other", tag)
    assert get(carrier) == (b"two", "1")
    assert get(FolderStore(store.url)) == (b"two", "1")
    assert (Path(store.url) / KEY).read_bytes() == b"two"
    source = tmp_path / "file"
    source.write_bytes(b"data")
    carrier.upload("embedder/v1/file", source, describe("file", b"data"), PIECE, lambda _: None)
    with pytest.raises(ConflictError):
        carrier.upload("embedder/v1/file", source, describe("file", b"data"), PIECE, lambda _: None)
    assert leftovers(store) == []


def test_mirror_writes_to_a_carrier(registry: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    publish_build(registry, "a")
    request.getfixturevalue("no_hard_links")
    assert main(["mirror", f"{registry}/embedder", str(tmp_path / "disk"), "--channel", "current", "--quiet"]) == 0
    assert main(["verify", str(tmp_path / "disk/embedder")]) == 0
    assert main(["promote", f"{tmp_path}/disk/embedder@v1", "--channel", "next"]) == 12


def test_a_file_that_is_too_large_for_the_file_system(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr("os.write", refuse)
    with pytest.raises(DiskError, match="takes no file as large as") as caught:
        store.create(KEY, b"one")
    assert "FAT32" in str(caught.value)
