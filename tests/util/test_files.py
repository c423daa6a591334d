from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.util.files import (
    identity,
    make_folder,
    make_folders,
    make_folders_below,
    replace_file,
    sync_folder,
    write_new,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.json"
    replace_file(path, b"one", mode=0o640, at=1000.0)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, path.stat().st_mtime) == (b"one", 0o640, 1000)

    def refuse(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        replace_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["note.json"]  # noqa: PTH208


def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_new(tmp_path / "a", b"one", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    sync_folder(tmp_path)


def test_folders_are_made_and_those_with_a_new_entry_named(tmp_path: Path) -> None:
    assert make_folders(tmp_path / "a" / "b") == [tmp_path / "a", tmp_path]
    assert make_folders(tmp_path / "a" / "b") == []
    make_folders_below(tmp_path, "c/d/file")
    assert (tmp_path / "c" / "d").is_dir()
    with pytest.raises(FileNotFoundError):
        make_folders_below(tmp_path / "gone", "c/file")


@pytest.mark.parametrize("make", [make_folder, make_folders])
def test_a_folder_that_another_process_removes_in_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    """Right after it was found there; and where it is shared with others, right after it was made."""
    folder = tmp_path / "a"
    folder.mkdir()
    mkdir = os.mkdir
    found: list[Path] = []
    made: list[Path] = []

    def mkdir_and_lose(path: Path, *arguments: Any, **options: Any) -> None:
        try:
            mkdir(path, *arguments, **options)
        except FileExistsError:
            found.append(path)
            folder.rmdir()
            raise
        made.append(path)
        if make is make_folder and len(made) == 1:
            folder.rmdir()

    monkeypatch.setattr(os, "mkdir", mkdir_and_lose)
    make(folder)
    assert folder.is_dir()
    assert (found, made) == ([folder], [folder] * (1 + (make is make_folder)))


def test_a_folder_is_not_made_where_something_else_is_or_nothing_to_make_it_in(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            make_folder(tmp_path / name)
        with pytest.raises(FileExistsError):
            make_folders(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "gone" / "a")


def test_a_file_is_itself_under_any_name_and_a_link_is_not_its_target(tmp_path: Path) -> None:
    file, other, link = tmp_path / "a", tmp_path / "b", tmp_path / "link"
    file.write_bytes(b"")
    link.symlink_to(file)
    os.link(file, other)
    with file.open() as opened:
        assert identity(opened.fileno()) == identity(file) == identity(other) != identity(link)
