from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.util.locks import try_lock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_of_another_user_that_is_released_in_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be written, and by then is not there: that says nothing of whether one may be made."""
    path = tmp_path / "lock"
    path.write_bytes(b"")
    opened = os.open

    def open_late(name: Any, flags: int, *mode: int, **options: Any) -> int:
        if flags & os.O_CREAT and path.exists():
            path.unlink()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return opened(name, flags, *mode, **options)

    monkeypatch.setattr(os, "open", open_late)
    lock = try_lock(path)
    assert lock is not None
    assert lock.works
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(name: Any, flags: int, *mode: int, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return opened(name, flags, *mode, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        try_lock(tmp_path / "lock")


def test_a_lock_whose_folder_goes_in_the_same_moment_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(descriptor: int, folder: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)

    opened, closed = os.open, os.close
    ours: list[int] = []

    def open_and_note(name: Any, *arguments: Any, **options: Any) -> int:
        descriptor = opened(name, *arguments, **options)
        if name == tmp_path / "lock":
            ours.append(descriptor)
        return descriptor

    def close_and_note(descriptor: int) -> None:
        if descriptor in ours:
            ours.remove(descriptor)
        closed(descriptor)

    monkeypatch.setattr("modeldrop.util.locks.share", gone)
    monkeypatch.setattr(os, "open", open_and_note)
    monkeypatch.setattr(os, "close", close_and_note)
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "lock")
    assert ours == []
    assert (tmp_path / "lock").exists()


def test_a_lock_that_excludes_nobody_leaves_no_file_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that has it too lets it go while this one tries whether it excludes anybody."""
    path = tmp_path / "lock"
    looks: list[int] = []

    def take(descriptor: int, _how: int) -> None:
        looks.append(descriptor)

    monkeypatch.setattr("fcntl.flock", take)
    opened = os.open

    def open_late(name: Any, flags: int, *mode: int, **options: Any) -> int:
        if name == path and looks:
            path.unlink(missing_ok=True)
        return opened(name, flags, *mode, **options)

    monkeypatch.setattr(os, "open", open_late)
    lock = try_lock(path)
    assert lock is not None
    assert not lock.works
    lock.release()
    assert list(tmp_path.iterdir()) == []
