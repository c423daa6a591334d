from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.home import read_link
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.verify import find_damage
from modeldrop.registry.channels import move_forward
from modeldrop.storage.write import open_store
from modeldrop.util.files import remove_tree
from modeldrop.util.locks import try_lock
from tests.helpers.builds import (
    MODELS,
    SHARED,
    contents,
    environment,
    make_build,
    open_to_all,
    publish_build,
    publish_folder,
    read_only,
    run_python,
    tree,
    unprivileged,
)
from tests.helpers.clouds import sign_in
from tests.helpers.crash_injection import fetch_together, run_forks
from tests.helpers.rounds import rounds
from tests.servers.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.clouds import Servers

PROCESSES = rounds(15, 50)
SIZE = sum(len(contents("a")[path]) for path in (*SHARED, MODELS["int8"]))
FETCH = "import sys; from modeldrop.fetcher.fetch import fetch; print(fetch(*sys.argv[1:]).path)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """S3; this process is signed in to it."""
    found = servers["s3"]
    assert isinstance(found, S3Server)
    sign_in(monkeypatch, found)
    return found


@pytest.fixture
def in_s3(server: S3Server, tmp_path: Path) -> str:
    """A reference to a version in S3."""
    registry = server.registry()
    make_build(tmp_path / "build", "a")
    store = open_store(registry)
    version = publish_folder(store, "embedder", tmp_path / "build", adopt_seconds=1).version
    move_forward(store, "embedder", version, "current", by="dana")
    return f"{registry}/embedder"


def together(
    reference: str, home: Path, *, count: int = PROCESSES, locks: str = "work", stuck: float = 600, lead: bool = False
) -> list[Any]:
    """What each of many processes fetched; all of them gave the same folder, and it is whole."""
    answers = run_forks(fetch_together, reference, home, count, locks, stuck, int(lead))
    assert [said for code, said in answers if code] == []
    (path,) = {said[0] for _, said in answers}
    assert list(find_damage(LocalSnapshot(home / "embedder" / path), read_files=True)) == []
    there = {str(file.relative_to(path)) for file in (home / "embedder" / path).rglob("*") if not file.is_dir()}
    assert there == {"manifest.json", MODELS["int8"], *SHARED}
    assert (home / "embedder/current").resolve() == home / "embedder" / path
    return [said[1:] for _, said in answers]


def gets(server: S3Server, name: str) -> int:
    return sum(request.method == "GET" and name in request.path for request in server.requests())


@pytest.mark.rounds
def test_many_processes_download_once(in_s3: str, server: S3Server, home: Path, tmp_path: Path) -> None:
    server.reset()
    run_python(FETCH, in_s3, tmp_path / "alone")
    alone = gets(server, MODELS["int8"])
    assert alone
    server.reset()
    figures = together(in_s3, home)
    assert gets(server, MODELS["int8"]) == alone
    assert sorted(figures) == [[0, 0]] * (PROCESSES - 1) + [[SIZE, 0]]
    assert list(home.glob("embedder/.partial/*")) == []


@pytest.mark.rounds
def test_many_processes_where_every_lock_is_free(in_s3: str, server: S3Server, home: Path) -> None:
    """The folder itself says that somebody is at work: even so one download, once that can be seen.

    The one that is at work stops until all others have begun to wait for it. Whoever did not wait would download too.
    """
    server.reset()
    figures = together(in_s3, home, locks="dead", lead=True)
    assert sum(fetched for fetched, _ in figures) == SIZE


@pytest.mark.rounds
@pytest.mark.parametrize("locks", ["dead", "work"])
def test_processes_that_take_each_others_work_away(in_s3: str, home: Path, locks: str) -> None:
    """Nobody waits for anybody: more requests, and still never a wrong result."""
    for number in range(rounds(1, 3)):
        together(in_s3, home / str(number), count=12, locks=locks, stuck=0)


def test_a_link_that_another_process_makes_in_the_same_moment(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks exclude nobody: it is no obstacle, and what was brought is told."""
    publish_build(registry, "a")

    def look(path: Path) -> str:
        monkeypatch.undo()
        assert not os.path.lexists(path)
        path.symlink_to("v1-int8-0")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr("modeldrop.fetcher.home.read_link", look)
    found = fetch(f"{registry}/embedder", home)
    assert (found.warnings, found.figures.fetched, found.checked) == ((), SIZE, "registry")
    assert read_link(home / "embedder/current") == found.path.name


def test_a_damaged_snapshot_that_another_process_removes_in_the_same_moment(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_build(registry, "a")
    path = fetch(f"{registry}/embedder", home).path
    (path / MODELS["int8"]).unlink()
    rename, removed = Path.rename, list[Path]()

    def rename_late(source: Path, target: Path) -> Path:
        try:
            return rename(source, target)
        except OSError:
            if target == path and not removed:
                removed.append(target)
                remove_tree(target)
            raise

    monkeypatch.setattr(Path, "rename", rename_late)
    found = fetch(f"{registry}/embedder", home)
    assert (found.path, found.warnings, removed) == (path, (), [path])
    assert list(find_damage(LocalSnapshot(path), read_files=True)) == []


HOLD = """
import sys, time
from pathlib import Path
from modeldrop.util.files import remove_tree
from modeldrop.util.locks import try_lock
folder = Path(sys.argv[1])
folder.mkdir(parents=True)
(folder / "work").mkdir()
lock = try_lock(folder / "lock")
assert lock.works
print("held", flush=True)
time.sleep(6000)
"""


@pytest.fixture
def stuck(registry: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the snapshot that is wanted, and does nothing."""
    manifest = publish_build(registry, "a")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home / f"embedder/.partial/{manifest.digest[7:39]}-int8")],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


IMPATIENT = f"""
import modeldrop.fetcher.download.staging as staging
staging.STUCK_SECONDS = 0.2
{FETCH}
"""


def test_nobody_waits_for_ever_for_a_process_that_does_nothing(
    stuck: subprocess.Popen[str], registry: Path, home: Path
) -> None:
    path = run_python(IMPATIENT, f"{registry}/embedder", home)
    assert path == str((home / "embedder/current").resolve())
    assert stuck.poll() is None


def test_the_deadline_holds_while_waiting(stuck: subprocess.Popen[str], registry: Path, home: Path) -> None:
    program = """
import sys, time
from modeldrop.errors import RegistryError
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.download import staging
now, try_lock = time.monotonic, staging.try_lock
def lock_and_let_time_pass(path):
    time.monotonic = lambda: now() + 1000
    return try_lock(path)
staging.try_lock = lock_and_let_time_pass
try:
    fetch(*sys.argv[1:], timeout=600)
except RegistryError as error:
    print(error.message)
"""
    said = run_python(program, f"{registry}/embedder", home)
    assert said.startswith("The time limit of 600 s is over, waiting for another process to finish its download into")


def test_who_has_no_time_left_waits_for_the_registry_where_nobody_else_is(registry: Path, home: Path) -> None:
    program = """
import sys, time
from modeldrop.errors import RegistryError
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.download import download
now, claims = time.monotonic, download.claims
def let_time_pass(*arguments):
    time.monotonic = lambda: now() + 1000
    return claims(*arguments)
download.claims = let_time_pass
try:
    fetch(*sys.argv[1:], timeout=600)
except RegistryError as error:
    print(error.message)
"""
    publish_build(registry)
    said = run_python(program, f"{registry}/embedder", home)
    assert (
        said == f"The time limit of 600 s is over, waiting for {SIZE / 1e6:.1f} of {SIZE / 1e6:.1f} MB from {registry}."
    )


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert lock.works
    assert try_lock(tmp_path / "lock") is None
    lock.release()
    assert list(tmp_path.iterdir()) == []
    again = try_lock(tmp_path / "lock")
    assert again is not None
    again.release()


def test_a_lock_that_excludes_nobody_is_known_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert not lock.works
    lock.release()


def test_other_users_can_read_what_one_has_fetched(registry: Path, home: Path, tmp_path: Path) -> None:
    """Whatever the umask was, below the model's folder."""
    publish_build(registry, "a")
    run_python(f"import os; os.umask(0o077)\n{FETCH}", f"{registry}/embedder", home)
    open_to_all(tmp_path)
    for folder in (home, home / "embedder"):
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o755)
    path = run_python(FETCH, f"{registry}/embedder", home, user=unprivileged())
    folders = [folder for folder in (home / "embedder" / path).rglob("*") if folder.is_dir()]
    assert {folder.stat().st_mode & 0o777 for folder in (home / "embedder" / path, *folders)} == {0o755}


def test_somebody_who_is_not_root(registry: Path, home: Path, tmp_path: Path) -> None:
    publish_build(registry, "a")
    home.mkdir()
    home.chmod(0o777)
    open_to_all(tmp_path)
    path = run_python(FETCH, f"{registry}/embedder", home, user=unprivileged())
    assert list(find_damage(LocalSnapshot(home / "embedder" / path), read_files=True)) == []


@pytest.mark.parametrize("selector", ["", "@v1"])
def test_a_read_only_volume_with_the_snapshot(registry: Path, home: Path, tmp_path: Path, selector: str) -> None:
    publish_build(registry, "a")
    path = run_python(FETCH, f"{registry}/embedder{selector}", home)
    open_to_all(tmp_path)
    with read_only(home):
        before = tree(home)
        assert run_python(FETCH, f"{registry}/embedder{selector}", home, user=unprivileged()) == path
        assert tree(home) == before


def test_a_read_only_mount_with_the_snapshot(registry: Path, home: Path, tmp_path: Path) -> None:
    """As root, whom permissions do not stop. Where nobody may mount, permissions are all that can be tried."""
    publish_build(registry, "a")
    path = run_python(FETCH, f"{registry}/embedder", home)
    mount = ["mount", "--bind", "-o", "ro", str(home), str(home)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        with read_only(home):
            assert run_python(FETCH, f"{registry}/embedder", home) == path
        return
    try:
        assert run_python(FETCH, f"{registry}/embedder", home) == path
        publish_build(registry, "b")
        failed = subprocess.run(
            [sys.executable, "-m", "modeldrop", "fetch", f"{registry}/embedder@v2", "-d", str(home)],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert failed.returncode == 15
        assert f"Could not write into {home}: Read-only file system." in failed.stderr
    finally:
        subprocess.run(["umount", str(home)], check=True)
