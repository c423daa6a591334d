from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.fetcher.download import filesystems
from modeldrop.fetcher.download.filesystems import is_in_memory

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = Path("/dev/shm")
LINE = "36 35 {device} / /cache rw,nosuid shared:1 - {kind} none rw\n"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the folder of this test be on a file system of some kind, among others."""
    found = tmp_path.stat().st_dev
    device = f"{found >> 8 & 0xFFF}:{found & 0xFF | found >> 12 & 0xFFF00}"

    def write(kind: str) -> None:
        others = LINE.format(device="250:250", kind="tmpfs") + LINE.format(device="250:251", kind="ext4")
        (tmp_path / "mountinfo").write_text(others + LINE.format(device=device, kind=kind) + others)

    monkeypatch.setattr(filesystems, "_MOUNTS", tmp_path / "mountinfo")
    return write


@pytest.mark.parametrize(("kind", "expected"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("overlay", False)])
def test_by_kind(mounts: Callable[[str], None], tmp_path: Path, kind: str, *, expected: bool) -> None:
    mounts(kind)
    assert is_in_memory(tmp_path) is expected


def test_what_is_not_known_is_not_in_memory(
    mounts: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts("tmpfs")
    assert not is_in_memory(tmp_path / "missing")
    (tmp_path / "mountinfo").write_bytes(b"\xff\n\n- -\n")
    assert not is_in_memory(tmp_path)
    monkeypatch.setattr(filesystems, "_MOUNTS", tmp_path / "none")
    assert not is_in_memory(tmp_path)


if sys.platform == "linux":

    def test_this_machine() -> None:
        assert is_in_memory(SHARED)
        assert not is_in_memory(Path("/proc"))
