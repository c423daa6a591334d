"""Homes on volumes that are no POSIX disk, or that several users share. Real mounts: ``tests/soak/test_volumes.py``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import DiskError
from modeldrop.fetcher.download.volume import check_volume
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.home import ModelHome, find_links, read_link
from modeldrop.fetcher.leases import let_go
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.status import read_status
from modeldrop.fetcher.verify import find_damage
from modeldrop.format.manifest import File
from tests.helpers.builds import MODELS, contents, open_to_all, publish_build, run_python
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from pathlib import Path

FETCH = "import sys; from modeldrop.fetcher.fetch import fetch; print(fetch(*sys.argv[1:]).path)"
ROOT = os.geteuid() == 0
GROUP = 54321
USERS = (20_001, 30_002, 40_003)

TAKE_TURNS = """
import concurrent.futures.thread, os, signal, sys
from modeldrop.fetcher.fetch import fetch

registry, home, umask, group, *users = sys.argv[1:]
# Other users may not be able to read the modules: all is imported, with what only a slow moment makes a fetch import.
fetch(f"{registry}/embedder", f"{home}-of-root")
write = os.pwrite

pieces = []

def die_at_the_second_piece(descriptor, data, offset):
    if len(data) > 1000:
        pieces.append(offset)
    if len(pieces) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(descriptor, data, offset)

def turn(user, selector, killed=False):
    process = os.fork()
    if not process:
        try:
            os.umask(int(umask, 8))
            if os.geteuid() == 0:
                os.setgroups([int(group)])
                os.setresgid(100, 100, 100)
                os.setresuid(user, user, user)
            if killed:
                os.pwrite = die_at_the_second_piece
            found = fetch(f"{registry}/embedder{selector}", home, keep=1)
            print(found.path.name.partition("-")[0], found.figures.adopted > 0, round(found.age), flush=True)
            os._exit(0)
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
    os.waitpid(process, 0)

one, two, three = map(int, users)
turn(one, "@v1", killed=True)
turn(two, "@v1")       # goes on with what another user has begun
turn(three, "@v2")
turn(one, "")
turn(two, "")          # confirms what another user has noted
turn(three, "@v3")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def whole(path: Path) -> bool:
    return list(find_damage(LocalSnapshot(path), read_files=True)) == []


@pytest.mark.parametrize("umask", ["022", "077"])
def test_users_of_a_group_take_turns_on_its_volume(registry: Path, home: Path, tmp_path: Path, umask: str) -> None:
    """As on a volume of Kubernetes with ``fsGroup``; who is not root can only be one user, and look at the modes."""
    for seed in "abc":
        publish_build(registry, seed)
    open_to_all(tmp_path)
    home.mkdir()
    if ROOT:
        os.chown(home, 0, GROUP)
    home.chmod(0o2775)
    said = run_python(TAKE_TURNS, registry, home, umask, GROUP, *USERS).splitlines()
    assert said == ["v1 True 0", "v2 False 0", "v3 False 0", "v3 False 0", "v3 False 0"]
    model = home / "embedder"
    for path in (model, *model.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o2775, path
        elif path.parent.name.startswith("v") or path.name == "manifest.json":
            assert stat.S_IMODE(mode) == 0o444, path
    open_to_all(tmp_path)
    assert all(whole(path) for path in model.glob("v*"))


def test_another_user_reads_what_an_init_container_with_umask_077_has_fetched(
    registry: Path, home: Path, tmp_path: Path
) -> None:
    publish_build(registry, "a")
    home.mkdir()
    home.chmod(0o755)
    open_to_all(tmp_path)
    path = run_python(f"import os; os.umask(0o077)\n{FETCH}", f"{registry}/embedder", home)
    for made in (home / "embedder").rglob("*"):
        assert made.is_symlink() or made.stat().st_mode & 0o004, made
    user = USERS[0] if ROOT else None
    assert run_python(FETCH, f"{registry}/embedder", home, user=user) == path
    status = "import sys; from modeldrop.fetcher.status import *; from pathlib import Path\n"
    status += "[found] = read_status(Path(sys.argv[1])); print(found.fault, found.generation)"
    assert run_python(status, home, user=user) == "1"


@pytest.mark.parametrize(("around", "made"), [(0o755, 0o700), (0o777, 0o775), (0o2775, 0o2775), (0o1777, 0o700)])
def test_how_open_a_home_is_that_is_made(tmp_path: Path, around: int, made: int) -> None:
    """Below a folder that others may write, a volume, the umask says nothing; below /tmp and a user's own it does."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(around)
    before = os.umask(0o077)
    try:
        ModelHome(volume / "home", "embedder").create("/registry")
    finally:
        os.umask(before)
    for path in (volume / "home", volume / "home/embedder"):
        assert stat.S_IMODE(path.stat().st_mode) == made


def test_work_of_another_user_that_may_not_be_gone_on_with_is_an_error(
    registry: Path, home: Path, tmp_path: Path
) -> None:
    """Not a wait for him: he may have begun it with an older release."""
    version = publish_build(registry, "a")
    work = home / f"embedder/.partial/{version.digest[7:39]}-int8"
    work.mkdir(parents=True)
    (home / "embedder/.registry").write_text(f"{registry}\n")
    open_to_all(tmp_path)
    for folder in (home, home / "embedder", home / "embedder/.partial"):
        folder.chmod(0o777)
    (work / "lost").mkdir()
    work.chmod(0o555)
    program = """
import sys
from modeldrop.errors import DiskError
from modeldrop.fetcher.fetch import fetch
try:
    fetch(*sys.argv[1:])
except DiskError as error:
    print(error)
"""
    said = run_python(program, f"{registry}/embedder", home, user=USERS[0] if ROOT else None)
    assert said.startswith(f"Could not write into {home}: Permission denied. {work} is of user ")


def test_a_volume_has_folders_of_its_own(registry: Path, home: Path, tmp_path: Path) -> None:
    """An ext4 volume's root, which nobody but root may read all of; exFAT's, as Windows leaves it."""
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", home)
    (home / "System Volume Information").mkdir()
    (home / "lost+found").mkdir(mode=0o000)
    open_to_all(tmp_path)
    status = "import sys; from modeldrop.fetcher.status import *; from pathlib import Path\n"
    status += "print([one.model for one in read_status(Path(sys.argv[1]))])"
    assert run_python(status, home, user=USERS[0] if ROOT else None) == "['embedder']"
    for command in ("status", "verify", "cache"):
        assert (
            modeldrop(
                *({"cache": ["cache", "ls", "-d"], "verify": ["verify", "-d"]}.get(command, [command])), home
            ).code
            == 0
        )


def test_a_private_home_stays_private(registry: Path, home: Path) -> None:
    publish_build(registry, "a")
    home.mkdir(mode=0o700)
    fetch(f"{registry}/embedder", home)
    assert {path.stat().st_mode & 0o077 for path in (home / "embedder", home / "embedder/.state/current.json")} == {0}


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without symbolic links, hard links and permissions, whose folders cannot be synced.

    Only mounts are so, which not everybody may make.
    """

    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    sync = os.fsync

    def sync_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr("os.symlink", refuse)
    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("os.chmod", refuse)
    monkeypatch.setattr("os.fchmod", refuse)
    monkeypatch.setattr("os.fsync", sync_files)


def test_a_link_that_is_a_file(registry: Path, home: Path, request: pytest.FixtureRequest) -> None:
    publish_build(registry, "a")
    publish_build(registry, "b")
    request.getfixturevalue("no_links")
    first = fetch(f"{registry}/embedder@v1", home)
    second = fetch(f"{registry}/embedder", home)
    link = home / "embedder/current"
    assert link.is_file()
    assert link.read_text() == f"{second.path.name}\n"
    assert find_links(home / "embedder") == {"current": second.path.name}
    assert fetch(f"{registry}/embedder", home).figures.found_all
    [status] = read_status(home)
    assert (status.link, status.fault, status.snapshot and status.snapshot.path) == ("current", "", second.path)
    assert modeldrop("verify", "-d", home, f"{registry}/embedder").out.split()[-3:] == [
        str(second.path),
        "int8",
        "whole",
    ]
    assert modeldrop("cache", "ls", "-d", home, "--json").json["snapshots"][0]["links"] == ["current"]
    let_go()
    pruned = modeldrop("cache", "prune", "-d", home, "--keep", "0", "--older-than", "0s")
    assert pruned.code == 0
    assert (first.path.exists(), second.path.exists()) == (False, True)
    registry.rename(registry.with_name("gone"))
    assert fetch(f"{registry}/embedder", home).path == second.path  # last good


def test_what_is_no_link_is_left_alone(registry: Path, home: Path) -> None:
    publish_build(registry, "a")
    fetch(f"{registry}/embedder@v1", home)
    for name, data in (("notes", b"v1 is good"), ("empty", b""), ("long", b"v1-" * 4000)):
        (home / "embedder" / name).write_bytes(data)
        with pytest.raises(OSError, match="Invalid argument"):
            read_link(home / "embedder" / name)
    os.mkfifo(home / "embedder/pipe")
    assert find_links(home / "embedder") == {}
    (home / "embedder/current").write_bytes(b"mine")
    with pytest.raises(DiskError, match="current is in the way: it is not a link"):
        fetch(f"{registry}/embedder", home)
    assert (home / "embedder/current").read_bytes() == b"mine"


UNSTABLE = """
import itertools, os, sys
from modeldrop.fetcher.fetch import fetch
from modeldrop.util import files, locks
from modeldrop.fetcher.download import partial_file, staging, transfer
numbers = itertools.count()
locks.identity = lambda file: (0, next(numbers))
for module in (staging, transfer):
    module.identity = locks.identity
print(fetch(sys.argv[1], sys.argv[2], timeout=250).path.name)
print(sorted(os.listdir(sys.argv[2] + "/embedder/.partial")))
"""


def test_inodes_that_change_do_not_look_like_another_process(registry: Path, home: Path) -> None:
    """As those of folders and locks on rclone's mounts: a fetch waited for itself, half an hour."""
    publish_build(registry, "a")
    name, partial = run_python(UNSTABLE, f"{registry}/embedder", home).splitlines()
    assert whole(home / "embedder" / name)
    assert partial == "[]"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("pread", "cannot write the parts of a file in any order: what was written is not what is read"),
        ("ftruncate", "cannot write the parts of a file in any order: Operation not supported"),
        ("replace", "cannot replace a file by renaming another one: Operation not supported"),
        ("rename", "cannot rename a folder with files in it: Operation not supported"),
    ],
)
def test_what_a_volume_lacks_is_said_before_a_byte_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, said: str
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        if call == "pread":
            return b""
        raise OSError(95, "Operation not supported")

    (tmp_path / "embedder").mkdir()
    monkeypatch.setattr(f"os.{call}", refuse)
    with pytest.raises(DiskError, match=f"The volume of {tmp_path}/embedder {said}"):
        check_volume(tmp_path / "embedder/.partial", [])
    monkeypatch.undo()
    assert list((tmp_path / "embedder/.partial").iterdir()) == []


def test_names_and_sizes_that_a_volume_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [File("odd?/name", 5 << 30, "", ())]
    (tmp_path / "embedder").mkdir()
    check_volume(tmp_path / "embedder/.partial", files)  # a disk takes both

    def refuse(*_: object) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr("os.truncate", refuse)
    with pytest.raises(DiskError, match=r"cannot hold a file of 5\.4 GB: File too large") as caught:
        check_volume(tmp_path / "embedder/.partial", files)
    assert "FAT32" in str(caught.value)
    assert list((tmp_path / "embedder/.partial").iterdir()) == []


def test_a_fetch_tries_the_volume_first(registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_build(registry, "a")

    def refuse(*_: object) -> None:
        raise DiskError("It lacks something.", "")

    monkeypatch.setattr("modeldrop.fetcher.download.download.check_volume", refuse)
    monkeypatch.setattr("modeldrop.fetcher.download.download.transfer", pytest.fail)
    with pytest.raises(DiskError, match="It lacks something"):
        fetch(f"{registry}/embedder", home)
    assert contents("a")[MODELS["int8"]] not in [path.read_bytes() for path in home.rglob("*") if path.is_file()]
