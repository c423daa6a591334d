"""What other processes do to a registry in a folder, or to a build, between two looks of this one."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import NotFoundError
from modeldrop.format import keys
from modeldrop.format.records import Seal, serialize_seal
from modeldrop.publishing import build
from modeldrop.registry.replicate import download_version
from modeldrop.registry.versions import get_version
from modeldrop.storage.write import folder as folder_store
from modeldrop.storage.write.folder import FolderStore
from modeldrop.util.files import write_new
from tests.helpers.builds import publish_build

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "embedder/current"


@pytest.fixture
def store(registry: Path) -> FolderStore:
    found = FolderStore(str(registry))
    found.swap(KEY, b"1", None)
    return found


@pytest.fixture
def seen(registry: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What a reader finds after each replacement of the object."""
    target, replace = registry / KEY, Path.replace
    found: list[bytes] = []

    def replace_and_look(path: Path, to: Path) -> Path:
        made = replace(path, to)
        if to == target:
            found.append(target.read_bytes())
        return made

    monkeypatch.setattr(Path, "replace", replace_and_look)
    return found


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Do it when it is called first."""
    done: list[None] = []

    def act() -> None:
        if not done:
            done.append(None)
            action()

    return act


def test_a_slow_swap_puts_nothing_older_back(
    store: FolderStore, seen: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = FolderStore._link
    other = FolderStore(store.url)

    def link_slowly(self: FolderStore, temporary: Path, target: Path, key: str) -> None:
        link(self, temporary, target, key)
        if self is store:
            other.swap(KEY, b"3", "2")

    monkeypatch.setattr(FolderStore, "_link", link_slowly)
    store.swap(KEY, b"2", "1")
    assert seen == [b"3"]


def test_a_slow_repair_puts_nothing_older_back(
    registry: Path, store: FolderStore, seen: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (registry / KEY).unlink()
    write, move = write_new, once(lambda: FolderStore(store.url).swap(KEY, b"2", "1"))

    def write_slowly(path: Path, data: bytes) -> None:
        write(path, data)
        move()

    monkeypatch.setattr(folder_store, "write_new", write_slowly)
    store.get(KEY)
    assert seen == [b"2"]


def test_an_object_that_is_deleted_while_it_is_read_is_not_there(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_settle", store.delete)
    assert store.get(KEY) is None


def test_a_folder_that_is_removed_when_its_last_object_is(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("embedder/v1/onnx/a", b"a")
    link, delete = os.link, once(lambda: store.delete("embedder/v1/onnx/a"))

    def link_late(*arguments: Any, **options: Any) -> None:
        delete()
        link(*arguments, **options)

    monkeypatch.setattr(os, "link", link_late)
    store.create("embedder/v1/onnx/b", b"b")
    assert [listed.key for listed in store.objects("embedder/v1")] == ["embedder/v1/onnx/b"]


def test_a_version_that_is_pruned_before_it_is_copied_was_not_changed(registry: Path, tmp_path: Path) -> None:
    publish_build(registry, "a")
    store = FolderStore(str(registry))
    version = get_version(store, "embedder", 1)
    stored = store.get(keys.manifest("embedder", 1))
    assert stored is not None
    seal = Seal("2026-11-20T09:40:00Z", "dana", "not among the newest 5")
    store.swap(keys.manifest("embedder", 1), serialize_seal(seal), stored.tag)
    with pytest.raises(NotFoundError, match="v1 of embedder was pruned on 2026-11-20: not among the newest 5"):
        download_version(store, "embedder", version, tmp_path / "copy")


@pytest.mark.parametrize("there", [True, False])
def test_a_build_that_takes_its_place_in_the_same_moment_as_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    target, fresh, theirs = tmp_path / "build", tmp_path / "fresh", tmp_path / "theirs"
    for folder in (fresh, theirs, *([target] if there else [])):
        folder.mkdir()
        (folder / "manifest.json").write_text(folder.name, "utf-8")
    rename, put = Path.rename, once(lambda: shutil.move(theirs, target))

    def rename_late(path: Path, to: Path) -> Path:
        if path == fresh:
            put()
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_late)
    build._replace_folder(target, fresh)
    assert (target / "manifest.json").read_text("utf-8") == "fresh"
    assert list(tmp_path.iterdir()) == [target]


def test_a_build_that_cannot_take_its_place_leaves_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, fresh = tmp_path / "build", tmp_path / "fresh"
    for folder in (target, fresh):
        folder.mkdir()
        (folder / "manifest.json").write_text(folder.name, "utf-8")
    rename = Path.rename

    def refuse(path: Path, to: Path) -> Path:
        if path == fresh:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(to))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        build._replace_folder(target, fresh)
    assert (target / "manifest.json").read_text("utf-8") == "build"
    assert sorted(tmp_path.iterdir()) == [target, fresh]
