from __future__ import annotations

import json
import os
import random
import shutil
import threading
import zlib
from queue import SimpleQueue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import modeldrop
from modeldrop.cli import main
from modeldrop.errors import RegistryError
from modeldrop.fetcher.download import deltas, download
from modeldrop.fetcher.download.deltas import DELTAS_FOLDER
from modeldrop.fetcher.download.transfer import transfer
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.home import find_snapshots
from modeldrop.fetcher.verify import find_damage
from modeldrop.format.deltas import decode_piece
from modeldrop.registry.channels import promote
from modeldrop.storage.write import open_store
from tests.helpers.builds import CPU, PIECE, describe, run_python
from tests.helpers.clouds import sign_out
from tests.helpers.delta_builds import GRAPH, PIECES, SIZE, publish_update, small_files_count, weights
from tests.helpers.waiting import HANG_SECONDS, wait_until
from tests.servers.faults import Fault, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.fetcher.snapshot import Snapshot, TransferStats


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_files_count(monkeypatch)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry that has v1, v2 and v3 (which ``current`` does not name), and homes that have v1."""
    folder = tmp_path_factory.mktemp("deltas")
    registry = folder / "registry"
    with pytest.MonkeyPatch.context() as patch:
        small_files_count(patch)
        patch.setenv("MODELDROP_CPU", CPU)
        publish_update(str(registry), folder, 1)
        publish_update(str(registry), folder, 2)
        publish_update(str(registry), folder, 3, channel=None)
    return registry


class Updated:
    """A registry that has v1 and v2, a home that has v1, and what is asked of the registry."""

    def __init__(self, server: FaultyServer, folder: Path) -> None:
        self.registry = server.url
        self.server = server
        self.folder = folder
        self.home = folder / "home"
        self.first = fetch(f"{server.url}/embedder@v1", self.home)
        server.forget()

    def fetch(self, **options: Any) -> Snapshot:
        return fetch(f"{self.registry}/embedder", self.home, **options)

    def path(self, path: str, version: int = 2) -> Path:
        return self.server.folder / "embedder" / f"v{version}" / path

    @property
    def asked(self) -> list[str]:
        """What was read of versions since, by its path there."""
        return [ask.key.partition("/v")[2].partition("/")[2] for ask in self.server.asks if "/v" in ask.key]

    def index(self, version: int = 2) -> dict[str, Any]:
        return dict(json.loads(self.path("deltas.json", version).read_bytes()))

    def delta(self, version: int = 2) -> str:
        """The delta's path below the version."""
        return str(self.index(version)["bases"][0]["files"][0]["stored"]["path"])

    def change_index(self, **fields: Any) -> None:
        """Have the index say something else of its only file."""
        index = self.index()
        file = index["bases"][0]["files"][0]
        file |= {name: value(file[name]) if callable(value) else value for name, value in fields.items()}
        self.replace("deltas.json", json.dumps(index).encode())

    def replace(self, path: str, data: bytes) -> None:
        self.path(path).unlink()
        self.path(path).write_bytes(data)

    def replace_delta(self, data: bytes, lengths: list[int]) -> None:
        """Another delta, with an index that describes it as it should."""
        stored = describe(self.delta(), data)._asdict()
        self.replace(self.delta(), data)
        self.replace("deltas.json", json.dumps(self.index() | {"piece_size": PIECE}).encode())
        self.change_index(stored={**stored, "pieces": list(stored["pieces"])}, lengths=lengths)

    @property
    def lengths(self) -> list[int]:
        return list(self.index()["bases"][0]["files"][0]["lengths"])

    @property
    def delta_bytes(self) -> bytes:
        return self.path(self.delta()).read_bytes()


@pytest.fixture
def updated(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Updated]:
    sign_out(monkeypatch)
    with FaultyServer(shutil.copytree(published, tmp_path / "registry")) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield Updated(server, tmp_path)


def check_whole(snapshot: Snapshot, number: int = 2) -> None:
    """It is the version's, byte for byte; those before are as they were, and nothing is left of the work."""
    assert (snapshot.path / GRAPH).read_bytes() == weights(number)
    home = snapshot.path.parent
    assert [damage for local in find_snapshots(home) for damage in find_damage(local, read_files=True)] == []
    assert not [path for path in home.rglob("*") if DELTAS_FOLDER in path.parts or path.suffix == ".unfinished"]


def test_an_update_takes_what_differs(updated: Updated) -> None:
    told: list[tuple[int, int]] = []
    snapshot = updated.fetch(progress=lambda done, total: told.append((done, total)))
    check_whole(snapshot)
    size = len(updated.delta_bytes)
    assert size < 0.1 * SIZE
    assert snapshot.figures._replace(seconds=0.0, linked=0) == (size, 0, 0, 0, 0.0, SIZE - size)
    assert snapshot.to_json()["saved_bytes"] == SIZE - size
    assert snapshot.warnings == ()
    assert told == sorted(told)
    assert told[-1] == (sum(file.size for file in snapshot.manifest.files),) * 2
    asked = updated.asked
    assert asked.count("deltas.json") == 1
    assert {*asked} == {"manifest.json", "deltas.json", updated.delta()}


def test_nothing_is_asked_where_there_is_nothing_to_gain(
    updated: Updated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetch(f"{updated.registry}/embedder", tmp_path / "empty")  # no older version on this disk
    assert updated.fetch(no_delta=True).figures.saved == 0
    monkeypatch.setattr("modeldrop.fetcher.download.deltas.MIN_FILE", SIZE + 1)  # no large file
    assert fetch(f"{updated.registry}/embedder@v3", updated.home).figures.saved == 0
    assert "deltas.json" not in updated.asked
    updated.server.forget()
    assert updated.fetch().figures.found_all
    assert updated.asked == []


def without_threads(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """``Thread.start`` where none is to be had to make pieces."""

    def refusing(thread: threading.Thread) -> None:
        if thread.name == "modeldrop-deltas":
            raise RuntimeError("can't start new thread")
        start(thread)

    return refusing


def test_pieces_are_made_while_the_delta_comes(updated: Updated, monkeypatch: pytest.MonkeyPatch) -> None:
    page, first = 4096, weights(2)[:PIECE]
    assert updated.lengths[0] < page < sum(updated.lengths)

    def move(reader: Any, prefix: str, files: Any, piece_size: int, into: Path, **more: Any) -> TransferStats:
        if into.name == DELTAS_FOLDER:  # a page of it, in which its first piece is whole and its second one is not
            [stored] = files
            target = into / stored.path
            target.parent.mkdir(parents=True)
            with target.open("wb") as file:
                file.truncate(stored.size)
                file.write(updated.delta_bytes[:page])
            more["progress"](0)
            wait_until(lambda: (into.parent / GRAPH).read_bytes()[:PIECE] == first)
        return transfer(reader, prefix, files, piece_size, into, **more)

    monkeypatch.setattr(download, "transfer", move)
    snapshot = updated.fetch()
    check_whole(snapshot)
    assert (snapshot.figures.fetched, snapshot.figures.saved) == (
        len(updated.delta_bytes),
        SIZE - len(updated.delta_bytes),
    )


@pytest.mark.parametrize(("seconds", "made"), [(1.0, PIECE), (0.0, SIZE)], ids=["slower", "faster"])
def test_pieces_come_where_making_them_is_slower_than_the_line(
    updated: Updated, monkeypatch: pytest.MonkeyPatch, seconds: float, made: int
) -> None:
    """By a clock that stands still but while pieces are made, all of them afterwards: the line is as fast as can be."""
    now = 0.0

    def decode(*arguments: Any) -> bytes | None:
        nonlocal now
        now += seconds
        return decode_piece(*arguments)

    monkeypatch.setattr(deltas, "_TELLS_A_RATE", 1)
    monkeypatch.setattr(deltas, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(deltas, "decode_piece", decode)
    monkeypatch.setattr(threading.Thread, "start", without_threads(threading.Thread.start))
    snapshot = updated.fetch()
    check_whole(snapshot)
    size = len(updated.delta_bytes)
    assert snapshot.figures.fetched == size + SIZE - made
    assert (snapshot.figures.saved, snapshot.warnings) == (made - size, ())


def test_a_version_without_deltas_comes_whole(updated: Updated) -> None:
    updated.path("deltas.json").unlink()
    snapshot = updated.fetch()
    check_whole(snapshot)
    assert (snapshot.figures.fetched, snapshot.figures.saved, snapshot.warnings) == (SIZE, 0, ())


def test_who_may_not_list_is_not_warned_of_what_is_not_there(updated: Updated) -> None:
    """S3 answers 403 there, not 404."""
    updated.path("deltas.json").unlink()
    updated.server.rule = lambda ask: Fault(status=403) if ask.key.endswith("deltas.json") else None
    snapshot = updated.fetch()
    check_whole(snapshot)
    assert (snapshot.figures.saved, snapshot.warnings) == (0, ())


def test_a_delta_serves_a_graph_by_another_name(updated: Updated) -> None:
    first = fetch(f"{updated.registry}/embedder@v1", updated.home, as_name="model.onnx")
    fetch(f"{updated.registry}/embedder", updated.folder / "other", as_name="model.onnx")
    snapshot = fetch(f"{updated.registry}/embedder", updated.home, as_name="here/graph.onnx")
    assert snapshot.figures.saved > 0.9 * SIZE
    assert (snapshot.path / "here/graph.onnx").read_bytes() == weights(2)
    assert (first.path / "model.onnx").read_bytes() == weights(1)


@pytest.mark.parametrize(
    ("old", "new"), [(SIZE, SIZE - PIECE - 7), (SIZE, SIZE + PIECE + 7), (3 * PIECE, 2 * PIECE + 1)]
)
def test_files_of_other_lengths(updated: Updated, old: int, new: int) -> None:
    folder, reference = str(updated.server.folder), f"{updated.registry}/other"
    publish_update(folder, updated.folder, 1, size=old, model="other")
    fetch(reference, updated.home)
    publish_update(folder, updated.folder, 2, size=new, model="other")
    snapshot = fetch(reference, updated.home)
    assert (snapshot.path / GRAPH).read_bytes() == weights(2, new)
    assert snapshot.figures.saved > 0.5 * min(old, new)


def _bomb(updated: Updated) -> None:
    """The first piece's delta gives a thousand times what there is room for."""
    first, *others = updated.lengths
    packed = zlib.compress(bytes(1000 * PIECE), 9)
    updated.replace_delta(packed + updated.delta_bytes[first:], [len(packed), *others])


def _without_zlib(updated: Updated) -> None:
    updated.replace_delta(random.Random(1).randbytes(sum(updated.lengths)), updated.lengths)


def _of_another_base(updated: Updated) -> None:
    """It says v1, and is from v2 to v3: what comes out of it is wrong all over."""
    data = updated.path(updated.delta(3), 3).read_bytes()
    updated.replace_delta(data, updated.index(3)["bases"][0]["files"][0]["lengths"])


LIES: dict[str, Callable[[Updated], None]] = {
    "no JSON": lambda updated: updated.replace("deltas.json", b"<html>"),
    "another document": lambda updated: updated.replace("deltas.json", b'{"schema": "modeldrop/deltas/9"}'),
    "too large": lambda updated: updated.replace("deltas.json", b" " * ((16 << 20) + 1)),
    "a path that leads out": lambda updated: updated.change_index(
        stored=lambda stored: stored | {"path": "../../../outside"}
    ),
    "the path of a manifest": lambda updated: updated.change_index(
        stored=lambda stored: stored | {"path": "manifest.json"}
    ),
    "lengths that are not those": lambda updated: updated.change_index(lengths=lambda lengths: [9, *lengths[1:]]),
    "no delta": lambda updated: updated.path(updated.delta()).unlink(),
    "a delta that ends early": lambda updated: updated.replace(updated.delta(), updated.delta_bytes[:-1000]),
    "a damaged delta": lambda updated: updated.replace(
        updated.delta(), bytes([updated.delta_bytes[0] ^ 1]) + updated.delta_bytes[1:]
    ),
    "a bomb": _bomb,
    "a delta that is none": _without_zlib,
    "a delta from another base": _of_another_base,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_costs_time_and_nothing_else(updated: Updated, lie: str) -> None:
    LIES[lie](updated)
    snapshot = updated.fetch()
    check_whole(snapshot)
    (warning,) = snapshot.warnings
    assert "fetched whole" in warning
    assert not (updated.folder / "outside").exists()
    assert (updated.first.path / GRAPH).read_bytes() == weights(1)


@pytest.mark.parametrize(
    "fields",
    [
        {"base_sha256": "0" * 64},
        {"base_size": SIZE - 1},
        {"path": "onnx/other.onnx"},
        {"encoding": "xor-future"},
        {"lengths": lambda lengths: [sum(lengths)]},
        {
            "stored": lambda stored: stored | {"size": SIZE, "pieces": ["0" * 64]},
            "lengths": [SIZE] + [0] * (PIECES - 1),
        },
    ],
    ids="-".join,
)
def test_a_delta_that_does_not_fit_is_left_alone(updated: Updated, fields: dict[str, Any]) -> None:
    updated.change_index(**fields)
    snapshot = updated.fetch()
    check_whole(snapshot)
    assert (snapshot.figures.saved, snapshot.warnings) == (0, ())
    assert updated.delta() not in updated.asked


def test_only_pieces_that_are_wrong_are_fetched(updated: Updated) -> None:
    graph = updated.first.path / GRAPH
    data, before = bytearray(weights(1)), graph.stat()
    data[2 * PIECE + 5] ^= 1
    graph.chmod(0o644)
    graph.write_bytes(data)
    graph.chmod(0o444)
    os.utime(graph, ns=(before.st_atime_ns, before.st_mtime_ns))
    snapshot = updated.fetch()
    assert (snapshot.path / GRAPH).read_bytes() == weights(2)
    size = len(updated.delta_bytes)
    assert (snapshot.figures.fetched, snapshot.figures.saved) == (size + PIECE, SIZE - PIECE - size)
    assert "1 piece" in snapshot.warnings[0]


def test_a_damaged_piece_of_a_delta_does_not_cost_the_others(updated: Updated) -> None:
    data = bytearray(updated.delta_bytes)
    data[updated.lengths[0] + 40] ^= 1
    updated.replace_delta(bytes(data), updated.lengths)
    snapshot = updated.fetch()
    check_whole(snapshot)
    assert (snapshot.figures.fetched, snapshot.figures.saved) == (len(data) + PIECE, SIZE - PIECE - len(data))


def test_without_room_for_a_delta_files_come_whole(updated: Updated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modeldrop.fetcher.download.room.Room.has_besides", lambda _self, _more: False)
    snapshot = updated.fetch()
    check_whole(snapshot)
    assert "too little room" in snapshot.warnings[0]


@pytest.mark.slow
def test_a_registry_that_goes_away_ends_the_fetch_as_ever(updated: Updated) -> None:
    updated.server.rule = lambda ask: Fault(status=500) if "/v2/" in ask.key and "manifest" not in ask.key else None
    with pytest.raises(RegistryError):
        updated.fetch(timeout=2, on_unavailable="fail")
    assert (updated.first.path / GRAPH).read_bytes() == weights(1)


def test_a_forked_child_takes_deltas(updated: Updated) -> None:
    program = """
import os, sys
import modeldrop
import modeldrop.fetcher.download.deltas as deltas
deltas.MIN_FILE = 1 << 16
registry, home = sys.argv[1:]
modeldrop.fetch(f"{registry}/embedder@v1", f"{home}-of-the-parent")
read, write = os.pipe()
if not os.fork():
    os.write(write, str(modeldrop.fetch(f"{registry}/embedder", home).figures.saved).encode())
    os._exit(0)
os.close(write)
print(open(read).read())
os.wait()
"""
    assert int(run_python(program, updated.registry, updated.home)) == SIZE - len(updated.delta_bytes)
    check_whole(updated.fetch())


@pytest.mark.parametrize(
    ("option", "variable", "deltas"), [([], "", True), (["--no-delta"], "", False), ([], "1", False)]
)
def test_the_command_says_what_was_saved(
    updated: Updated,
    option: list[str],
    variable: str,
    deltas: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MODELDROP_NO_DELTA", variable)
    assert main(["fetch", f"{updated.registry}/embedder", "-d", str(updated.home), "--json", *option]) == 0
    said = capsys.readouterr()
    assert (json.loads(said.out)[0]["saved_bytes"] > 0) == deltas
    assert ("0.3 MB saved by deltas" in said.err) == deltas


@pytest.mark.parametrize(("option", "deltas"), [([], True), (["--no-delta"], False)])
def test_an_export_takes_them_too(
    updated: Updated, option: list[str], deltas: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, layout = f"{updated.registry}/embedder", f"oci:{tmp_path}/layout:x"
    assert main(["export", reference, layout, "-d", str(updated.home), "--format=modelpack", *option]) == 0
    assert ("320.5 kB saved by deltas" in capsys.readouterr().err) == deltas


def test_a_watch_takes_deltas(updated: Updated) -> None:
    changes: SimpleQueue[Snapshot] = SimpleQueue()

    def changed(new: Snapshot, _old: Snapshot | None) -> None:
        changes.put(new)

    with modeldrop.watch(f"{updated.registry}/embedder", changed, directory=updated.home, interval=0.02):
        for number in (2, 3):
            snapshot = changes.get(timeout=HANG_SECONDS)
            check_whole(snapshot, number)
            assert snapshot.figures.saved > 0.9 * SIZE
            promote(open_store(str(updated.server.folder)), "embedder", 3, "current", by="dana")


def test_a_folder_gives_files_whole(tmp_path: Path) -> None:
    """To copy a file takes less of a processor than to make it."""
    registry = str(tmp_path / "registry")
    publish_update(registry, tmp_path, 1)
    fetch(f"{registry}/embedder", tmp_path / "home")
    publish_update(registry, tmp_path, 2)
    assert (tmp_path / "registry/embedder/v2/deltas.json").exists()  # for those who read it otherwise
    snapshot = fetch(f"{registry}/embedder", tmp_path / "home")
    check_whole(snapshot)
    assert (snapshot.figures.fetched, snapshot.figures.saved) == (SIZE, 0)
