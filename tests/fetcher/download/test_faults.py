"""Transfers from a server that misbehaves on purpose."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from modeldrop.errors import IntegrityError, RegistryError
from modeldrop.fetcher.download import transfer as transfers
from modeldrop.fetcher.options import time_limit
from modeldrop.storage.read import bucket, direct, obstore_client
from modeldrop.storage.read.interface import open_reader
from tests.helpers.builds import PIECE, describe, environment, start
from tests.helpers.clouds import sign_in
from tests.helpers.time_limits import lift_limits
from tests.helpers.waiting import HANG_SECONDS, wait_until
from tests.servers.faults import Fault, FaultyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modeldrop.fetcher.snapshot import TransferStats
    from modeldrop.format.manifest import File
    from tests.servers.faults import ReceivedRequest

KEY = "m/v1/onnx/model.onnx"
PATH = "onnx/model.onnx"
DATA = random.Random(1).randbytes(3 * PIECE + 4321)
PART = PIECE // 4
LIMITS = transfers.LIMITS


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses take milliseconds, and every piece is a request of its own; a busy machine is not taken for a stall."""
    quick = transfers.LIMITS._replace(
        max_request=PIECE, min_request=PIECE, first=4, connections=4, chunk=4096, min_chunk=64, failures=4, pause=0.01,
        busy_pause=0.02, max_pause=0.1, quiet=0.0,
    )  # fmt: skip
    monkeypatch.setattr(transfers, "LIMITS", quick)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    folder = tmp_path / "served"
    put(folder, DATA)
    with FaultyServer(folder) as running:
        sign_in(monkeypatch, running)
        yield running


@pytest.fixture(params=["through obstore", "directly"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How parts of files are read: by obstore, as all but long ones, or all of them directly."""
    if request.param == "directly":
        monkeypatch.setattr(bucket, "_DIRECT_AFTER", 0)
        monkeypatch.setattr(bucket, "_DIRECT_FROM", 1)
    return str(request.param)


def put(folder: Path, data: bytes) -> None:
    """Make or replace the object."""
    path = folder / KEY
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


class Outcome(NamedTuple):
    told: int
    transferred: TransferStats


def bring(server: FaultyServer, tmp_path: Path, file: File | None = None, *, seconds: float = 600) -> Outcome:
    """Transfer the object; it must come out right."""
    into = tmp_path / "into"
    into.mkdir(exist_ok=True)
    file = file or describe(PATH, DATA)
    told: list[int] = []
    done = transfers.transfer(
        open_reader(server.url), "m/v1", [file], PIECE, into, deadline=time_limit(seconds), progress=told.append
    )
    assert describe(PATH, (into / PATH).read_bytes()) == file
    assert (into / PATH).stat().st_mode & 0o777 == 0o444
    return Outcome(sum(told), done)


def notice_stalls(monkeypatch: pytest.MonkeyPatch, stall: str = "300ms") -> None:
    """Take silence for a stall at once; where the machine was only busy, that is one more attempt, and no failure."""
    monkeypatch.setattr(obstore_client, "_READ", stall)
    monkeypatch.setattr(obstore_client, "_REQUEST", "700ms")
    monkeypatch.setattr(direct, "_READ", 0.3)
    monkeypatch.setattr(direct, "_REQUEST", 0.7)
    monkeypatch.setattr(transfers, "LIMITS", transfers.LIMITS._replace(failures=1000))


def first(fault: Fault) -> Callable[[ReceivedRequest], Fault | None]:
    """Misbehave at the first request of each piece."""
    return lambda ask: fault if ask.nth == 1 else None


RETRYABLE = {
    "reset before the answer": Fault(after=None, then="reset"),
    "reset within the answer": Fault(after=5000, then="reset"),
    "closed before the answer": Fault(after=None, then="close"),
    "truncated": Fault(after=5000, then="close"),
    "truncated, and says so": Fault(short=5000),
    "empty, and says so": Fault(short=0),
    "stall before the answer": Fault(after=None, then="stall"),
    "stall before the body": Fault(after=0, then="stall"),
    "stall within the body": Fault(after=20_000, then="stall"),
    "slow drip": Fault(after=20_000, drip=0.05),
    "500": Fault(status=500),
    "502": Fault(status=502),
    "503": Fault(status=503, headers={"Retry-After": "1"}),
    "429": Fault(status=429, headers={"Retry-After": "1"}),
    "408": Fault(status=408),
    "wrong Content-Range": Fault(shift=16),
    "200 instead of 206": Fault(whole=True),
}


@pytest.mark.parametrize("name", RETRYABLE)
def test_what_happens_once_is_overcome(
    name: str, way: str, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "stall" in name or "drip" in name:
        notice_stalls(monkeypatch)
    server.rule = first(RETRYABLE[name])
    outcome = bring(server, tmp_path)
    assert outcome.told == len(DATA)
    if way == "through obstore":  # what was answered to a direct request is obstore's to ask again
        assert outcome.transferred.retries >= 4  # every run
    assert outcome.transferred.adopted == 0
    assert outcome.transferred.fetched == len(DATA)  # nothing came twice


def test_a_part_goes_on_where_it_broke_off(way: str, server: FaultyServer, tmp_path: Path) -> None:
    server.rule = lambda _: Fault(after=PART // 4, then="close")
    done = bring(server, tmp_path).transferred
    assert done.fetched == len(DATA)
    assert done.retries > transfers.LIMITS.failures * 2  # progress gives the whole budget back
    wait_until(lambda: server.sent == len(DATA))  # it counts what it has sent a moment after


LASTING = {
    "reset": (Fault(after=None, then="reset"), "it closes the connection"),
    "truncated": (Fault(after=0, then="close"), "it closes the connection"),
    "empty": (Fault(short=0), "answers end before they are complete"),
    "500": (Fault(status=500), "the service answered 500"),
    "503": (Fault(status=503), "the service answered 503"),
    "429": (Fault(status=429), "the service answered 429"),
    "wrong Content-Range": (Fault(shift=16), "answers with other bytes than it was asked for"),
    "200 instead of 206": (Fault(whole=True), "does not serve ranges"),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_named(name: str, server: FaultyServer, tmp_path: Path) -> None:
    fault, sentence = LASTING[name]
    server.rule = lambda _: fault
    with pytest.raises(RegistryError, match=sentence) as caught:
        bring(server, tmp_path)
    assert server.url in caught.value.message
    assert max(Counter((ask.start, ask.end) for ask in server.asks).values()) <= transfers.LIMITS.failures


@pytest.mark.parametrize(("status", "sentence"), [(403, "the service answered 403"), (404, "the service answered 404")])
def test_what_cannot_heal_is_not_tried_again(status: int, sentence: str, server: FaultyServer, tmp_path: Path) -> None:
    server.rule = lambda _: Fault(status=status)
    with pytest.raises(RegistryError, match=sentence):
        bring(server, tmp_path)
    assert {ask.nth for ask in server.asks} == {1}
    assert len(server.asks) <= transfers.LIMITS.connections


def test_a_busy_service_is_left_alone_for_as_long_as_it_says(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server.folder, DATA)
    asked: list[str] = []

    def ask(address: str, _certificates: str) -> float:
        asked.append(address)
        return 0.0

    monkeypatch.setattr("modeldrop.storage.read.patience.ask_retry_after", ask)
    server.rule = lambda ask: Fault(status=503, headers={"Retry-After": "1"}) if ask.nth <= 2 else None
    bring(server, tmp_path)
    assert asked
    assert all(address.startswith(f"http://127.0.0.1:{server.port}/faulty/") for address in asked)


def test_stalls_use_up_no_retries(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = transfers.LIMITS.failures + 2
    monkeypatch.setattr(obstore_client, "_READ", "100ms")
    server.rule = lambda ask: Fault(after=0, then="stall") if ask.nth <= rounds else None
    data = DATA[:PART]
    put(server.folder, data)
    # A busy machine may look like one more stall: each attempt is counted, none ends it.
    assert bring(server, tmp_path, describe(PATH, data)).transferred.retries == len(server.asks) - 1 >= rounds


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault(after=None, then="stall"), Fault(after=100, drip=0.02)], ids=["stall", "drip"])
def test_the_deadline_holds_within_requests(
    fault: Fault, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice_stalls(monkeypatch)
    server.rule = lambda _: fault
    for seconds in (1.5, 15, 150):
        with pytest.raises(
            RegistryError, match=rf"limit of {seconds} s is over, waiting for 0.2 of 0.2 MB from s3://faulty"
        ) as told:
            bring(server, tmp_path, seconds=seconds)
        if "no answer in time" in told.value.message:
            break
    assert "no answer in time" in told.value.message
    lift_limits(put=monkeypatch.setattr)
    server.rule = lambda _: None
    bring(server, tmp_path)


def test_a_drip_is_enough_to_get_there(server: FaultyServer, tmp_path: Path) -> None:
    data = DATA[:300]
    put(server.folder, data)
    server.rule = lambda _: Fault(after=0, drip=0.002)
    assert bring(server, tmp_path, describe(PATH, data)).transferred.fetched == len(data)


def test_no_connections_for_a_while(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "LIMITS", transfers.LIMITS._replace(failures=1_000_000))  # however long that is
    enough, closed = threading.Event(), threading.Event()

    def hold(_: ReceivedRequest) -> None:
        if len(server.asks) > 2:
            enough.set()
            closed.wait(HANG_SECONDS)

    def close_for_a_while() -> None:
        enough.wait(HANG_SECONDS)
        with server.deaf():
            closed.set()
            time.sleep(0.2)

    server.rule = hold
    closing = threading.Thread(target=close_for_a_while)
    closing.start()
    outcome = bring(server, tmp_path)
    closing.join()
    assert outcome.told == len(DATA)
    assert outcome.transferred.retries


def test_nobody_listens(server: FaultyServer, tmp_path: Path) -> None:
    with server.deaf(), pytest.raises(RegistryError, match="cannot be reached: connection refused"):
        bring(server, tmp_path)


def test_a_name_that_does_not_resolve(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://models.invalid")
    with pytest.raises(RegistryError, match=r"http://models\.invalid cannot be reached: its name does not resolve"):
        bring(server, tmp_path)
    assert not server.asks


def test_a_thousand_flipped_bits(
    way: str, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        transfers,
        "LIMITS",
        transfers.LIMITS._replace(
            max_request=PIECE, min_request=PIECE, chunk=PIECE, first=8, connections=8, slow_chunk=HANG_SECONDS
        ),
    )
    chance = random.Random(2)
    data = chance.randbytes(1000 * PIECE - 777)
    put(server.folder, data)
    bits = {index * PIECE: chance.randrange(8 * min(PIECE, len(data) - index * PIECE)) for index in range(1000)}
    flipped: list[int] = []
    lock = threading.Lock()

    def flip(ask: ReceivedRequest) -> Fault | None:
        """Flip the bit of each piece once, whichever part of it is asked for: of a slow line that is less."""
        piece = ask.start - ask.start % PIECE
        bit = 8 * (piece - ask.start) + bits[piece]
        with lock:
            if piece in flipped or not 0 <= bit < 8 * (ask.end - ask.start):
                return None
            flipped.append(piece)
        return Fault(flips=(bit,))

    server.rule = flip
    done = bring(server, tmp_path, describe(PATH, data)).transferred
    assert sorted(flipped) == sorted(bits)
    assert done.retries == 1000
    assert done.fetched == 2 * len(data)
    wait_until(lambda: server.sent == 2 * len(data))


def test_damage_that_stays_is_named(server: FaultyServer, tmp_path: Path) -> None:
    server.rule = lambda ask: Fault(flips=(9,)) if ask.start == PIECE else None
    with pytest.raises(IntegrityError, match=f"{KEY} is damaged: bytes {PIECE} to {2 * PIECE}") as caught:
        bring(server, tmp_path)
    assert "The snapshot in use is untouched" in caught.value.hint
    assert Counter(ask.start for ask in server.asks)[PIECE] == 2  # the same wrong bytes twice leave no doubt


def test_damage_that_changes_every_time_ends(server: FaultyServer, tmp_path: Path) -> None:
    server.rule = lambda ask: Fault(flips=(8 * ask.nth,)) if ask.start == PIECE else None
    with pytest.raises(IntegrityError, match=f"bytes {PIECE} to {2 * PIECE}"):
        bring(server, tmp_path)
    assert Counter(ask.start for ask in server.asks)[PIECE] == transfers.LIMITS.refusals + 1


@pytest.mark.parametrize(
    "data", [DATA[:-1], DATA[: PIECE - 5], DATA + b"x", b""], ids=["1 less", "less", "more", "none"]
)
def test_another_size_is_named(data: bytes, server: FaultyServer, tmp_path: Path) -> None:
    put(server.folder, data)
    with pytest.raises(
        IntegrityError, match=rf"{KEY} is damaged: it (has {len(data)} bytes, not the|ends before the) {len(DATA)}"
    ):
        bring(server, tmp_path)


def test_requests_are_bound_to_the_first_answer(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "LIMITS", transfers.LIMITS._replace(connections=1))
    bring(server, tmp_path)
    bound = [ask.headers.get("if-match") for ask in server.asks]
    assert len(bound) == 4
    assert bound[0] is None
    assert len(set(bound[1:])) == 1
    assert bound[1] is not None


def test_an_object_replaced_half_way(
    way: str, server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "LIMITS", transfers.LIMITS._replace(connections=1))  # the first answer has come

    def replaced(data: bytes) -> Callable[[ReceivedRequest], None]:
        def rule(ask: ReceivedRequest) -> None:
            if ask.start == PIECE and ask.nth == 1:
                put(server.folder, data)

        return rule

    server.rule = replaced(DATA)  # the same bytes under another ETag
    assert bring(server, tmp_path).transferred.retries >= 1
    (tmp_path / "into" / PATH).unlink()
    server.forget()
    server.rule = replaced(bytes(len(DATA)))
    with pytest.raises(IntegrityError, match="are not those of the manifest"):
        bring(server, tmp_path)


def test_an_object_that_changes_all_the_time(server: FaultyServer, tmp_path: Path) -> None:
    server.rule = lambda _: put(server.folder, DATA)
    bring(server, tmp_path)


def test_a_weak_etag_binds_nothing(server: FaultyServer, tmp_path: Path) -> None:
    server.weak = True
    bring(server, tmp_path)
    assert {ask.headers.get("if-match") for ask in server.asks} == {None}


_TRANSFER = """
import sys
from dataclasses import replace
from pathlib import Path
from modeldrop.fetcher.download import transfer as transfers
from modeldrop.fetcher.options import time_limit
from modeldrop.storage.read.interface import open_reader
from tests.helpers.builds import PIECE, describe
from tests.helpers.time_limits import lift_limits
lift_limits()
transfers.LIMITS = transfers.LIMITS._replace(max_request=PIECE, min_request=PIECE)
data = Path(sys.argv[1]).read_bytes()
file, into = describe("onnx/model.onnx", data), Path(sys.argv[3])
done = transfers.transfer(open_reader(sys.argv[2]), "m/v1", [file], PIECE, into,
    deadline=time_limit(600), progress=lambda _: None)
print(done.fetched, done.adopted)
"""


def test_killed_half_way(server: FaultyServer, tmp_path: Path) -> None:
    pieces, half = 128, 64
    data = random.Random(3).randbytes(pieces * PIECE)
    put(server.folder, data)
    into = tmp_path / "into"
    into.mkdir()
    arguments = (server.folder / KEY, server.url, into)
    server.rule = lambda ask: Fault(after=None, then="stall") if ask.start >= half * PIECE else None
    # environment() reads this process's, which is signed in to the server
    assert environment()["AWS_ENDPOINT_URL_S3"]
    process = start(_TRANSFER, *arguments)
    while (
        server.stalled < LIMITS.connections and process.poll() is None
    ):  # all connections: what came before is on disk
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: server.sent == half * PIECE)
    assert not os.access(into / PATH, os.X_OK)
    server.forget()
    server.rule = lambda _: None
    done = bring(server, tmp_path, describe(PATH, data)).transferred
    assert server.sent <= 0.55 * len(data)
    wait_until(lambda: server.sent == done.fetched)
    assert done.adopted == half * PIECE
    server.forget()
    done = bring(server, tmp_path, describe(PATH, data)).transferred
    assert (done.fetched, done.adopted, server.asks) == (0, len(data), [])


_SLOW_TRANSFER = _TRANSFER.replace(
    "data = ",
    """from modeldrop.fetcher.download import pieces
pieces._KEEP_SECONDS = 0.0
transfers.LIMITS = transfers.LIMITS._replace(first_chunk=4096, chunk=4096, first=4, connections=4)
data = """,
).replace("progress=", "unfinished=into.parent, progress=")


def test_killed_within_pieces(server: FaultyServer, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(8 * PIECE)
    put(server.folder, data)
    into = tmp_path / "into"
    into.mkdir()
    came = 3 * 4096
    server.rule = lambda ask: Fault(after=None if ask.start % PIECE else came, then="stall")
    process = start(_SLOW_TRANSFER, server.folder / KEY, server.url, into)
    while sum(file.stat().st_size for file in tmp_path.glob("*.unfinished")) < 4 * came:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: server.sent == 4 * came)
    wrong = min(tmp_path.glob("*.unfinished"))
    wrong.write_bytes(b"?" + wrong.read_bytes()[1:])  # as after a power cut
    server.forget()
    server.rule = lambda _: None
    told: list[int] = []
    file = describe(PATH, data)
    done = transfers.transfer(
        open_reader(server.url), "m/v1", [file], PIECE, into,
        deadline=time_limit(600), progress=told.append, unfinished=tmp_path,
    )  # fmt: skip
    assert (into / PATH).read_bytes() == data
    assert sum(told) == len(data)
    assert (done.adopted, done.fetched) == (3 * came, len(data) - 3 * came + PIECE - came)
    wait_until(lambda: server.sent == done.fetched)
    assert list(tmp_path.glob("*.unfinished")) == []


def test_progress_is_told_before_a_piece_is_complete(server: FaultyServer, tmp_path: Path) -> None:
    server.rule = lambda _: Fault(after=PIECE // 2, then="stall")
    into = tmp_path / "into"
    into.mkdir()
    told: list[int] = []

    def tell(count: int) -> None:
        told.append(count)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfers.transfer(
            open_reader(server.url), "m/v1", [describe(PATH, DATA)], PIECE, into,
            deadline=time_limit(600), progress=tell,
        )  # fmt: skip
    assert 0 < told[0] <= 4 * PIECE // 2


def test_progress_goes_back_where_a_piece_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    data = DATA[:PIECE]
    put(server.folder, data)
    some_told, went_back = threading.Event(), threading.Event()

    def rule(ask: ReceivedRequest) -> Fault | None:
        if len(server.asks) == 1:
            return Fault(after=PIECE // 2, then="reset")
        some_told.wait(HANG_SECONDS)
        if len(server.asks) == 2:
            return Fault(flips=(7,))
        went_back.wait(HANG_SECONDS)
        return None

    server.rule = rule
    into = tmp_path / "into"
    into.mkdir()
    told: list[int] = []

    def tell(count: int) -> None:
        told.append(count)
        (some_told if count > 0 else went_back).set()

    transfers.transfer(
        open_reader(server.url), "m/v1", [describe(PATH, data)], PIECE, into, deadline=time_limit(600), progress=tell
    )
    assert min(told) < 0
    assert sum(told) == PIECE
    assert min(sum(told[: end + 1]) for end in range(len(told))) >= 0
