from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.cli import main
from modeldrop.fetcher import leases
from modeldrop.fetcher.eviction import evict, survey
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.home import ModelHome, find_snapshots
from tests.helpers.builds import MODELS, environment, publish_build, read_only

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 3600.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with v1 to v5 of embedder, and a home that holds them all; v5 is current."""
    folder = tmp_path_factory.mktemp("template")
    for number, seed in enumerate("abcde", 1):
        publish_build(folder / "registry", seed)
        fetch(f"{folder}/registry/embedder@v{number}", folder / "home", keep=9)
    fetch(f"{folder}/registry/embedder", folder / "home", keep=9)
    return folder


@pytest.fixture
def registry(template: Path) -> Path:
    return template / "registry"


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    """A copy of the home; its snapshots were last used 50, 40, 30, 26 and 0 hours ago."""
    subprocess.run(["cp", "-a", str(template / "home"), str(tmp_path)], check=True)
    for path in snapshots(tmp_path / "home").values():
        used(path, {"1": 50, "2": 40, "3": 30, "4": 26, "5": 0}[path.name[1]])
    return tmp_path / "home"


def snapshots(home: Path) -> dict[str, Path]:
    return {f"v{one.version}": one.path for one in find_snapshots(home / "embedder")}


def used(path: Path, hours: float) -> None:
    """Let the last use of a snapshot be so long ago."""
    then = time.time() - hours * HOUR
    os.utime(path, (then, then))
    note = path.parent / ".used" / path.name
    note.parent.mkdir(exist_ok=True)
    note.touch()
    os.utime(note, (then, then))


def evicted(home: Path, keep: int, **options: Any) -> list[str]:
    gone = evict(ModelHome(home, "embedder"), keep, now=time.time(), **options)
    assert {path.exists() for path in gone} <= {bool(options.get("dry_run"))}
    return sorted(path.name.partition("-")[0] for path in gone)


def test_the_last_used_ones_stay(home: Path) -> None:
    assert evicted(home, 9) == []
    assert evicted(home, 3) == ["v1", "v2"]
    assert sorted(snapshots(home)) == ["v3", "v4", "v5"]
    assert list((home / "embedder/.partial").iterdir()) == []
    assert sorted(path.name.partition("-")[0] for path in (home / "embedder/.used").iterdir()) == ["v3", "v4", "v5"]


def test_what_a_link_names_stays(home: Path) -> None:
    (home / "embedder/staging").symlink_to(snapshots(home)["v1"].name)
    (home / "embedder/odd").symlink_to(f"./{snapshots(home)['v2'].name}/")
    assert evicted(home, 0) == ["v3", "v4"]


def test_what_was_used_a_moment_ago_stays_unless_room_is_needed(home: Path) -> None:
    assert leases.note_use(snapshots(home)["v2"])
    used(snapshots(home)["v3"], -1)  # by somebody whose clock is ahead
    used(snapshots(home)["v4"], 0.2)
    (home / "embedder/current").unlink()
    assert evicted(home, 0) == ["v1", "v4"]
    assert evicted(home, 0, idle=0) == ["v2", "v3", "v5"]


def test_a_dry_run_removes_nothing(home: Path) -> None:
    assert evicted(home, 3, dry_run=True) == ["v1", "v2"]
    assert len(snapshots(home)) == 5


def test_a_fetch_that_finds_it_says_that_it_is_used(registry: Path, home: Path) -> None:
    fetch(f"{registry}/embedder@v1", home)
    assert time.time() - leases.last_use(snapshots(home)["v1"]) < 3600
    assert evicted(home, 0, idle=0) == ["v2", "v3", "v4"]  # this process lives


def test_use_is_noted_once_a_minute(home: Path) -> None:
    path = snapshots(home)["v1"]
    now = time.time()
    assert leases.note_use(path, now)
    assert leases.note_use(path, now + 59)
    assert leases.last_use(path) == pytest.approx(now, abs=0.01)
    assert leases.note_use(path, now + 61)
    assert leases.last_use(path) == pytest.approx(now + 61, abs=0.01)


HOLD = """
import os, sys
from modeldrop.fetcher.leases import hold
descriptor = hold(sys.argv[1])
os.execv(sys.executable, [sys.executable, "-c", "print('mine', flush=True); input()"])
"""


def test_what_a_program_holds_through_exec_stays_until_it_ends(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(snapshots(home)["v1"])],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    found = {use.snapshot.version: use.used_by for use in survey(home / "embedder", time.time())}
    assert found == {1: "a process holds it", 2: "", 3: "", 4: "", 5: ""}
    assert evicted(home, 0) == ["v2", "v3", "v4"]
    process.communicate("\n")
    assert evicted(home, 0) == ["v1"]


def test_two_may_hold_the_same(home: Path) -> None:
    first, second = leases.hold(snapshots(home)["v1"]), leases.hold(snapshots(home)["v1"])
    os.close(first)
    assert evicted(home, 0) == ["v2", "v3", "v4"]
    os.close(second)


def test_what_has_gone_cannot_be_held(home: Path) -> None:
    path = snapshots(home)["v1"]
    assert evicted(home, 4) == ["v1"]
    with pytest.raises(FileNotFoundError):
        leases.hold(path)
    assert not leases.note_use(path)


def test_what_has_a_lease_stays_until_the_lease_is_old_or_given_back(home: Path) -> None:
    given = leases.lease(snapshots(home)["v1"])
    old = leases.lease(snapshots(home)["v2"])
    back = leases.lease(snapshots(home)["v3"])
    then = time.time() - leases.LEASE_SECONDS - 1
    os.utime(old.path, (then, then))
    back.release()
    assert evicted(home, 0) == ["v2", "v3", "v4"]
    given.touch()
    assert [
        kept.used_by.startswith(f"process {os.getpid()} on ") for kept in survey(home / "embedder", time.time())
    ] == [
        False,
        True,
    ]
    given.release()
    assert not list((home / "embedder/.leases").iterdir())


LEASE = """
import sys
from pathlib import Path
from modeldrop.fetcher.leases import lease
lease(Path(sys.argv[1]))
"""


def test_the_lease_of_a_process_that_died_here_is_over(home: Path) -> None:
    subprocess.run([sys.executable, "-c", LEASE, str(snapshots(home)["v1"])], env=environment(), check=True)
    (lease,) = (home / "embedder/.leases").glob("v1-*/*")
    assert evicted(home, 4, dry_run=True) == ["v1"]
    lease.rename(lease.with_name(f"elsewhere+1-{lease.name.split('-', 1)[1].split('-', 1)[-1]}"))
    assert evicted(home, 4) == []  # on another machine nobody can tell


def test_nothing_is_raised_where_nothing_can_be_removed(home: Path, tmp_path: Path) -> None:
    assert evict(ModelHome(tmp_path / "nowhere", "embedder"), now=time.time()) == []
    (tmp_path / "file").touch()
    assert evict(ModelHome(tmp_path / "file", "embedder"), now=time.time()) == []
    if os.geteuid():
        with read_only(home):
            assert evicted(home, 0) == []


def test_leftovers_go_with_it(home: Path) -> None:
    old = home / "embedder/.partial/0123-int8"
    (old / "work").mkdir(parents=True)
    os.utime(old, (0, 0))
    assert evicted(home, 9) == []
    assert not old.exists()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_cache_ls(home: Path, registry: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    fetch(f"{registry}/embedder@v1", home, variant="fp32", keep=9)
    code, out, _ = run("cache", "ls", "-d", home, "--json")
    assert code == 0
    found = json.loads(out)
    assert [entry["version"] for entry in found["snapshots"]] == ["v1", "v5", "v4", "v3", "v2", "v1"]
    by_variant = {entry["variant"]: entry for entry in found["snapshots"] if entry["version"] == "v1"}
    assert by_variant.keys() == {"fp32", "int8"}
    on_disk = subprocess.run(
        ["du", "-s", "-B1", "--exclude=.*", str(home / "embedder")], check=True, capture_output=True, text=True
    ).stdout
    folders = sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_dir() and ".used" not in str(path))
    assert found["disk_bytes"] <= int(on_disk.split()[0]) <= found["disk_bytes"] + folders + 4096
    assert found["disk_bytes"] < sum(entry["disk_bytes"] for entry in found["snapshots"])  # config.json is shared
    assert by_variant["int8"]["own_bytes"] < by_variant["int8"]["disk_bytes"]
    assert [entry["links"] for entry in found["snapshots"]] == [[], ["current"], [], [], [], []]
    code, out, _ = run("cache", "ls", "-d", home)
    lines = out.splitlines()
    header = "model snapshot version variant on disk its own last use links in use"
    assert lines[0].split() == header.split()
    assert len(lines) == 8
    assert lines[-1].endswith(" in all.")


def test_cache_of_nothing(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("cache", "ls", "-d", tmp_path / "nowhere") == (0, f"{tmp_path}/nowhere holds no snapshots.\n", "")
    assert run("cache", "prune", "-d", tmp_path / "nowhere") == (0, "Nothing to remove.\n", "")
    (tmp_path / "file").touch()
    code, _, err = run("cache", "ls", "-d", tmp_path / "file")
    assert code == 15
    assert f"{tmp_path}/file cannot be read: Not a directory." in err


def test_cache_prune(home: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("cache", "prune", "-d", home, "--dry-run")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()[:2]] == [["would", "remove", "embedder"]] * 2
    assert len(snapshots(home)) == 5
    code, out, _ = run("cache", "prune", "-d", home, "--keep", 1, "--older-than", "28h", "--json")
    assert code == 0
    assert sorted(entry["version"] for entry in json.loads(out)["removed"]) == ["v1", "v2", "v3"]
    assert json.loads(out)["freed_bytes"] > 0
    assert sorted(snapshots(home)) == ["v4", "v5"]
    assert run("cache", "prune", "-d", home, "--keep", "-1")[0] == 2
    assert run("cache", "prune", "-d", home, "--older-than", "soon")[0] == 2


@pytest.fixture
def damaged(home: Path) -> str:
    """The name of a snapshot in which one bit is not what it was."""
    graph = snapshots(home)["v3"] / MODELS["int8"]
    graph.chmod(0o644)
    data = bytearray(graph.read_bytes())
    data[70_000] ^= 4
    status = graph.stat()
    graph.write_bytes(data)
    graph.chmod(0o444)
    os.utime(graph, ns=(status.st_atime_ns, status.st_mtime_ns))
    return graph.parent.parent.name


def test_verify(home: Path, registry: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("verify", "-d", home)
    assert (code, err) == (0, "")
    assert out.count("whole") == 5
    for what, versions in (
        (f"{registry}/embedder", ["v5"]),
        (f"{registry}/embedder@v2", ["v2"]),
        ("embedder", ["v1", "v2", "v3", "v4", "v5"]),
        (home / "embedder/current", ["v5"]),
        (snapshots(home)["v1"], ["v1"]),
    ):
        code, out, _ = run("verify", "-d", home, what, "--json")
        assert code == 0
        assert [Path(entry["path"]).name.partition("-")[0] for entry in json.loads(out)] == versions
    code, _, err = run("verify", "-d", home, f"{registry}/embedder@v9")
    assert code == 5
    assert "has no snapshot of" in err
    assert run("verify", "-d", home / "nowhere")[0] == 5


def test_verify_finds_one_bit(damaged: str, home: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("verify", "-d", home)
    assert code == 14
    assert (out.count("whole"), out.count("damaged")) == (4, 1)
    assert f"{damaged}/onnx/model_quantized.onnx does not have the digest that the manifest says." in err
    code, out, _ = run("verify", "-d", home, "--json")
    assert code == 14
    (found,) = [entry for entry in json.loads(out) if not entry["whole"]]
    assert Path(found["path"]).name == damaged
    assert run("verify", "-d", home, snapshots(home)["v2"])[0] == 0


@pytest.mark.parametrize("damage", ["cut", "missing", "manifest", "no manifest"])
def test_verify_says_what_is_wrong(home: Path, run: Callable[..., tuple[int, str, str]], damage: str) -> None:
    folder = snapshots(home)["v4"]
    graph, note = folder / MODELS["int8"], folder / "manifest.json"
    for path in (graph, note):
        path.chmod(0o644)
    if damage == "cut":
        graph.write_bytes(b"cut")
    elif damage == "missing":
        graph.unlink()
    elif damage == "manifest":
        note.write_bytes(note.read_bytes().replace(b"apache", b"Apache"))
    else:
        note.unlink()
    code, _, err = run("verify", "-d", home, folder)
    assert code == 14
    assert {
        "cut": "has 3 bytes; the manifest says 131072.",
        "missing": "model_quantized.onnx is missing.",
        "manifest": "not that of its folder.",
        "no manifest": "manifest.json is missing.",
    }[damage] in err
