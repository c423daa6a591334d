"""Transfers into folders that already hold something, from registries that behave."""

from __future__ import annotations

import errno
import os
import threading
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from modeldrop.errors import IntegrityError, RegistryError
from modeldrop.fetcher.download import cpu_wait
from modeldrop.fetcher.download import transfer as transfers
from modeldrop.fetcher.download.pace import Growth, Pace
from modeldrop.fetcher.download.pieces import Queue
from modeldrop.fetcher.download.transfer import transfer
from modeldrop.fetcher.download.unfinished import UnfinishedPieces
from modeldrop.fetcher.options import time_limit
from modeldrop.fetcher.snapshot import TransferStats
from modeldrop.storage.read.folder import FolderReader
from modeldrop.storage.read.interface import UNCHANGED, Document, open_reader
from modeldrop.storage.write import open_store
from tests.fetcher.download.transfer_files import BIG, CONTENTS, FILES, PREFIX, SIZE
from tests.helpers.builds import PIECE, describe, finish, publisher_environment, registry, start
from tests.helpers.rounds import rounds

LIMITS = transfers.LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.fetcher.download.partial_file import PartialFile

__all__ = ["publisher_environment", "registry"]


@pytest.fixture
def source(registry: Path) -> Path:
    for path, data in CONTENTS.items():
        file = registry / PREFIX / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return registry


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def bring(source: Path | str, into: Path, progress: Callable[[int], None] | None = None) -> TransferStats:
    told: list[int] = []
    done = transfer(
        open_reader(str(source)),
        PREFIX,
        FILES,
        PIECE,
        into,
        deadline=time_limit(600),
        progress=progress or told.append,
    )
    for path, data in CONTENTS.items():
        assert (into / path).read_bytes() == data
        assert (into / path).stat().st_mode & 0o777 == 0o444
    if progress is None:
        assert sum(told) == SIZE
        assert all(count > 0 for count in told)
    return done


def write_file(into: Path, path: str, data: bytes, mode: int = 0o644) -> Path:
    file = into / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(mode)
    return file


def test_from_every_kind_of_registry(any_registry: str, into: Path) -> None:
    store = open_store(any_registry)
    for path, data in CONTENTS.items():
        store.create(f"{PREFIX}/{path}", data)
    assert bring(any_registry, into) == TransferStats(fetched=SIZE)
    assert bring(any_registry, into) == TransferStats(adopted=SIZE)


def test_a_piece_at_a_time(any_registry: str, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        transfers, "LIMITS", transfers.LIMITS._replace(max_request=10_000, min_request=1, memory=PIECE, connections=3)
    )
    store = open_store(any_registry)
    for path, data in CONTENTS.items():
        store.create(f"{PREFIX}/{path}", data)
    assert bring(any_registry, into) == TransferStats(fetched=SIZE)


@pytest.mark.parametrize("mode", [0o644, 0o444])
def test_what_is_right_is_adopted_piece_by_piece(mode: int, source: Path, into: Path) -> None:
    data = bytearray(CONTENTS[BIG])
    data[PIECE + 5] ^= 1
    file = write_file(into, BIG, bytes(data), mode)
    write_file(into, "onnx/exact.onnx", CONTENTS["onnx/exact.onnx"], mode)
    before = file.stat().st_ino
    done = bring(source, into)
    assert done.adopted == 5 * PIECE + 4321 - PIECE
    assert done.fetched == SIZE - done.adopted
    assert file.stat().st_ino == before


def test_a_hole_is_no_data(source: Path, into: Path) -> None:
    file = into / BIG
    file.parent.mkdir()
    with file.open("wb") as target:
        target.truncate(len(CONTENTS[BIG]))
        target.seek(2 * PIECE)
        target.write(CONTENTS[BIG][2 * PIECE : 3 * PIECE])
    assert bring(source, into).adopted == PIECE


@pytest.mark.parametrize("data", [b"", CONTENTS[BIG][:-1], CONTENTS[BIG] + b"x"], ids=["none", "less", "more"])
def test_a_file_of_another_size_is_replaced(data: bytes, source: Path, into: Path) -> None:
    file = write_file(into, BIG, data)
    with file.open("rb") as kept:
        bring(source, into)
        assert kept.read() == data
        assert os.fstat(kept.fileno()).st_nlink == 0


def test_a_file_with_a_second_name_is_never_written(source: Path, into: Path, tmp_path: Path) -> None:
    damaged = bytes(len(CONTENTS[BIG]))
    other = tmp_path / "snapshot.onnx"
    other.hardlink_to(write_file(into, BIG, damaged))
    whole = tmp_path / "exact.onnx"
    whole.hardlink_to(write_file(into, "onnx/exact.onnx", CONTENTS["onnx/exact.onnx"]))
    assert bring(source, into).adopted == 2 * PIECE
    assert other.read_bytes() == damaged
    assert whole.samefile(into / "onnx/exact.onnx")


def test_links_and_pipes_are_replaced(source: Path, into: Path, tmp_path: Path) -> None:
    victim = write_file(tmp_path, "victim", CONTENTS["config.json"], 0o600)
    (into / "config.json").symlink_to(victim)
    (into / "onnx").mkdir()
    os.mkfifo(into / BIG)
    bring(source, into)
    assert victim.stat().st_mode & 0o777 == 0o600
    assert not (into / "config.json").is_symlink()


def test_a_folder_in_the_way(source: Path, into: Path) -> None:
    (into / BIG).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        bring(source, into)


def test_a_folder_that_is_gone_is_not_made_again(source: Path, into: Path) -> None:
    into.rmdir()
    with pytest.raises(FileNotFoundError):
        bring(source, into)
    assert not into.exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_renamed_meanwhile(again: bool, source: Path, into: Path) -> None:
    done = into.with_name("done")

    def rename(_: int) -> None:
        if not done.exists():
            into.rename(done)
            if again:
                into.mkdir()

    with pytest.raises(FileNotFoundError):
        bring(source, into, rename)
    assert not again or not any(into.rglob("*.onnx"))


def test_a_file_replaced_meanwhile_is_looked_at_again(source: Path, into: Path) -> None:
    told = []

    def tamper(count: int) -> None:
        told.append(count)
        if sum(told) == SIZE:  # all is written: somebody else begins anew
            (into / BIG).unlink()
            write_file(into, BIG, bytes(len(CONTENTS[BIG])))

    done = bring(source, into, tamper)
    assert sum(told) == SIZE
    assert done.fetched == SIZE + len(CONTENTS[BIG])
    assert done.adopted == 0


def test_a_damaged_registry(source: Path, into: Path) -> None:
    data = CONTENTS[BIG]
    (source / PREFIX / BIG).write_bytes(data[: PIECE + 1] + b"?" + data[PIECE + 2 :])
    with pytest.raises(IntegrityError, match=f"{BIG} is damaged: bytes {PIECE} to {2 * PIECE}"):
        bring(source, into)
    (source / PREFIX / BIG).write_bytes(data + b"x")
    with pytest.raises(IntegrityError, match=rf"{BIG} is damaged: it has {len(data) + 1} bytes, not the {len(data)}"):
        bring(source, into)
    (source / PREFIX / BIG).unlink()
    with pytest.raises(RegistryError, match=f"Could not read .*{BIG}"):
        bring(source, into)
    (source / PREFIX / BIG).write_bytes(data)
    assert bring(source, into).adopted > 0  # what was proven is kept


def test_no_time(source: Path, into: Path) -> None:
    write_file(into, BIG, CONTENTS[BIG])
    with pytest.raises(RegistryError, match="The time limit of 0 s is over, waiting for"):
        transfer(open_reader(str(source)), PREFIX, FILES, PIECE, into, deadline=time_limit(0), progress=print)


def test_who_is_told_may_give_up(source: Path, into: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(source, into, interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name == "modeldrop-transfer"]
    bring(source, into)


_TRANSFER = """
import pathlib, resource, sys
from modeldrop.fetcher.options import time_limit
from modeldrop.storage.read.interface import open_reader
from modeldrop.fetcher.download.transfer import transfer
from tests.helpers.builds import PIECE
from tests.fetcher.download.transfer_files import FILES, PREFIX
def run():
    transfer(open_reader(sys.argv[1]), PREFIX, FILES, PIECE, pathlib.Path(sys.argv[2]),
        deadline=time_limit(600), progress=lambda _: None)
"""


def test_no_room(source: Path, into: Path) -> None:
    limited = f"""{_TRANSFER}
resource.setrlimit(resource.RLIMIT_FSIZE, ({3 * PIECE}, {3 * PIECE}))
try:
    run()
except OSError as error:
    print(error.errno)
"""
    assert finish(start(limited, source, into)) == str(errno.EFBIG)
    assert bring(source, into).adopted >= 0


@pytest.mark.rounds
def test_many_processes_in_one_folder(source: Path, into: Path) -> None:
    for _ in range(rounds(1, 3)):
        processes = [start(f"{_TRANSFER}\nrun()", source, into) for _ in range(4)]
        for process in processes:
            finish(process)
        assert bring(source, into) == TransferStats(adopted=SIZE)
        for file in FILES:
            (into / file.path).unlink()
        write_file(into, BIG, b"of another size")


NOTHING = UnfinishedPieces("")


class _PartialFile:
    """What a queue knows of a file on disk."""

    def __init__(self, pieces: int, missing: list[int]) -> None:
        self.file = describe(BIG, bytes(pieces * PIECE - 5))
        self.missing = missing

    def start(self, index: int) -> int:
        return index * PIECE

    def length(self, index: int) -> int:
        return min(PIECE, self.file.size - index * PIECE)


def runs(queue: Queue, share: int, most: int) -> list[tuple[int, int]]:
    """Start and bytes of all that a queue hands out."""
    found = []
    while (run := queue.next_run(share, most)) is not None:
        found.append((run.start, run.left))
    return found


def test_runs_are_of_missing_pieces_that_follow_each_other() -> None:
    partial = cast("PartialFile", _PartialFile(10, [0, 1, 2, 4, 8, 9]))
    assert runs(Queue([partial, partial], str, NOTHING, 2 * PIECE), 2, 2 * PIECE) == 2 * [
        (0, 2 * PIECE), (2 * PIECE, PIECE), (4 * PIECE, PIECE), (8 * PIECE, 2 * PIECE - 5)
    ]  # fmt: skip


def test_a_run_begins_with_what_is_there_of_a_piece(tmp_path: Path) -> None:
    partial = cast("PartialFile", _PartialFile(10, [0, 1, 2, 3, 8, 9]))
    pieces = (*("0" * 64, "1" * 64, "2" * 64, "3" * 64), *["4" * 64] * 4, "8" * 64, "9" * 64)
    partial.file = partial.file._replace(pieces=pieces)
    kept = UnfinishedPieces(tmp_path)
    kept.add("2" * 64, 0, [memoryview(b"ab"), memoryview(b"c")])
    kept.add("2" * 64, 3, [memoryview(b"d")])
    kept.add("9" * 64, 0, [memoryview(bytes(2 * PIECE))])  # more than there is to come
    queue = Queue([partial], str, UnfinishedPieces(tmp_path), 10 * PIECE)
    assert runs(queue, 1, 10 * PIECE) == [
        (0, 2 * PIECE), (2 * PIECE + 4, 2 * PIECE - 4), (8 * PIECE, PIECE), (10 * PIECE - 6, 1)
    ]  # fmt: skip
    (tmp_path / "file").write_bytes(b"")
    UnfinishedPieces(tmp_path / "file").add("2" * 64, 0, [memoryview(b"a")])  # best effort
    kept.forget("9" * 64)
    assert not UnfinishedPieces(tmp_path).has("9" * 64)


def test_the_pace_of_a_connection() -> None:
    pace = Pace(LIMITS)
    assert (pace.chunk, pace.length(1 << 30)) == (LIMITS.first_chunk, 1 << 30)
    pace.note(100, 0.1)  # says nothing
    pace.note(100, 3.0)
    assert pace.length(1 << 30) == 1 << 30
    pace.note(1 << 20, 0.01)
    assert (pace.chunk, pace.length(32 << 20)) == (LIMITS.chunk, 32 << 20)
    pace.note(160_000, 5.0)
    assert pace.chunk == 8000
    assert pace.length(32 << 20) == 8 * 32_000  # within a request's time limit
    pace.stalled()
    assert pace.chunk == LIMITS.min_chunk
    pace.note(10_000, 8.0)
    assert pace.length(32 << 20) == 16 << 10
    pace.note(16 << 10, 0.01)  # it was only a moment
    assert (pace.chunk, pace.length(8 << 20)) == (LIMITS.chunk, 8 << 20)
    assert Pace(LIMITS, 1e9).chunk == LIMITS.chunk


@pytest.mark.parametrize(
    ("line", "connection", "found"),
    [
        (1e9, 1e9, 20),
        (5e6, 1e9, 20),
        (300e3, 1e9, 6),
        (100e3, 1e9, 6),
        (20e3, 1e9, 3),
        (1e9, 50e3, 20),
        (5e6, 100e3, 20),
    ],
)
def test_connections_are_added_while_that_helps(line: float, connection: float, found: int) -> None:
    growth, connections, fetched, now = Growth(LIMITS, 0.0), LIMITS.first, 0.0, 0.0
    for _ in range(100):
        now += 0.25
        fetched += 0.25 * min(line, connections * connection)
        connections = min(growth.wanted(connections, int(fetched), now), LIMITS.connections)
    assert connections == found


def looks(line: Callable[[int], float], waits: float = 0.0, seconds: float = 1.0) -> list[int]:
    """How many connections there are in turn, where so many bytes a second come over so many connections.

    ``waits``: the part of their time for which threads wait for a processor.
    """
    now = fetched = waited = 0.0
    growth, connections, found = Growth(LIMITS, now, lambda: waited), LIMITS.first, [LIMITS.first]
    while now < seconds:
        now, fetched = now + LIMITS.interval, fetched + LIMITS.interval * line(connections)
        waited += waits * LIMITS.interval * connections
        rate = line(connections)
        wanted = growth.look(connections, int(fetched), now, rate=rate, slow=rate < LIMITS.fast * connections)
        if wanted is not None and wanted != connections:
            connections = min(wanted, LIMITS.connections)
            found.append(connections)
    return found


def test_connections_that_do_not_help_are_taken_back_for_a_while() -> None:
    assert looks(lambda _: 100e6) == [3, 20, 3]
    assert looks(lambda count: 40e6 * count) == [3, 20]
    assert looks(lambda count: 90e6 * count) == [3]
    assert looks(lambda _: 100e6, seconds=5.0) == [3, 20, 3, 20, 3]  # the line may be another one by then


def test_no_connections_are_added_for_threads_that_wait_for_a_processor() -> None:
    assert looks(lambda _: 100e6, waits=0.5) == [3]
    assert looks(lambda count: 40e6 * count, waits=0.1) == [3, 20]


def test_waiting_for_a_processor_is_what_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for thread, told in {"1": "7 1500000000 3", "2": "7 250000000 3", "3": "", "4": "0 nothing 0"}.items():
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(told)
    (tmp_path / "5").mkdir()
    monkeypatch.setattr(cpu_wait, "_THREADS", tmp_path)
    assert cpu_wait.waited() == 1.75
    monkeypatch.setattr(cpu_wait, "_THREADS", tmp_path / "none")
    assert cpu_wait.waited() == 0.0


def test_everything_comes_with_connections_that_come_and_go(
    source: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = transfers.LIMITS._replace(max_request=PIECE, min_request=1, connections=8, interval=0.0)
    monkeypatch.setattr(transfers, "LIMITS", limits)
    wanted = cycle([8, 1, None, 5, 1])
    monkeypatch.setattr(Growth, "look", lambda *_, **__: next(wanted))
    assert bring(source, into) == TransferStats(fetched=SIZE)


def test_runs_end_where_blocks_do() -> None:
    piece, mebi = 1 << 20, 1 << 20
    partial: Any = _PartialFile(1, [])
    partial.file = partial.file._replace(size=100 * mebi, pieces=("0" * 64,) * 100)
    partial.missing = list(range(5, 100))
    partial.start, partial.length = lambda index: index * piece, lambda _: piece
    found = [
        (start // mebi, length // mebi) for start, length in runs(Queue([partial], str, NOTHING, mebi), 4, 32 * mebi)
    ]
    assert found[:3] == [(5, 19), (24, 16), (40, 8)]
    assert sum(length for _, length in found) == 95


def test_runs_are_at_least_what_a_connection_brings_in_a_moment() -> None:
    partial = cast("PartialFile", _PartialFile(10, list(range(10))))
    queue = Queue([partial], str, NOTHING, PIECE)
    run = queue.next_run(100, 100 * PIECE, 4 * PIECE)
    assert run is not None
    assert run.left == 4 * PIECE
    pace = Pace(LIMITS)
    assert pace.shortest() == LIMITS.min_request
    assert Pace(LIMITS, 1e9).shortest() == LIMITS.short_request
    assert Pace(LIMITS, 20e6).shortest() == 2_000_000


def test_runs_become_shorter_towards_the_end() -> None:
    partial = cast("PartialFile", _PartialFile(100, list(range(100))))
    lengths = [length // PIECE for _, length in runs(Queue([partial], str, NOTHING, 2 * PIECE), 8, 11 * PIECE)]
    assert lengths[:4] == [11, 11, 10, 9]  # at most 11, then an eighth of what is left
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-3:-1] == [2, 2]


def test_a_piece_larger_than_a_request_may_be_is_asked_for_whole() -> None:
    partial = cast("PartialFile", _PartialFile(3, [0, 1, 2]))
    assert runs(Queue([partial], str, NOTHING, 1), 16, 10) == [(0, PIECE), (PIECE, PIECE), (2 * PIECE, PIECE - 5)]


def test_only_so_many_connections_as_a_piece_of_each_fits_in_memory(
    source: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = transfers.LIMITS._replace(
        memory=2 * PIECE + 1, max_request=PIECE, min_request=PIECE, first=8, fast=1e12, interval=0.0
    )
    monkeypatch.setattr(transfers, "LIMITS", limits)
    seen = set()
    read = FolderReader.stream

    def stream(*arguments: Any, **options: Any) -> Any:
        seen.add(threading.current_thread())
        return read(*arguments, **options)

    monkeypatch.setattr(FolderReader, "stream", stream)
    bring(source, into)
    assert 1 <= len(seen) <= 2


def test_get_if_changed(any_registry: str) -> None:
    store = open_store(any_registry)
    store.create("m/current", b"first")
    reader = open_reader(any_registry)
    first = reader.get_if_changed("m/current", 10, "")
    assert isinstance(first, Document)
    assert first.data == b"first"
    assert first.etag
    assert reader.get_if_changed("m/current", 10, first.etag) is UNCHANGED
    found = store.get("m/current")
    assert found is not None
    store.swap("m/current", b"other", found.tag)
    other = reader.get_if_changed("m/current", 10, first.etag)
    assert isinstance(other, Document)
    assert other.data == b"other"
    assert other.etag != first.etag
    assert reader.get_if_changed("m/staging", 10, first.etag) is None
    with pytest.raises(IntegrityError, match="at most 4 are read"):
        reader.get_if_changed("m/current", 4, first.etag)
