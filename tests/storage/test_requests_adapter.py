from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
from urllib3.util import connection

from modeldrop.storage import requests_adapter
from modeldrop.storage.sdk_answers import answers_explained
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "storage.test"
BODY = bytes(24 << 20)
READ = 64 << 10
STALLS = (3.0, 30.0, 300.0)
"""How long nothing may move, in seconds, one after another: on a busy machine the reader may stand still."""


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxies
        session.mount("http://", requests_adapter.Adapter())
        yield session


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any, **named: Any) -> Any:
        if host != NAME:
            return real(host, port, *arguments, **named)
        return [entry for address in addresses for entry in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    """A port of all addresses that answers nobody any more, as a firewall does."""
    with socket.create_server(("0.0.0.0", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        port: int = full.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def answer(listener: socket.socket, *, pause: float = 0) -> None:
    """Read one request with a body, slowly, and answer it."""
    connection, _ = listener.accept()
    with connection:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1 << 10)
        head, _, body = received.partition(b"\r\n\r\n")
        left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0) - len(body)
        while left > 0:
            came = len(connection.recv(min(left, READ)))
            assert came, "whoever sends has given up"
            left -= came
            time.sleep(pause)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")


def test_all_addresses_of_a_name_share_one_timeout(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, [f"127.0.0.{last}" for last in range(1, 17)])
    limits: list[float] = []
    connect = connection.create_connection

    def create_connection(address: tuple[str, int], limit: float, *more: Any) -> socket.socket:
        limits.append(limit)
        return connect(address, limit, *more)

    monkeypatch.setattr(requests_adapter, "create_connection", create_connection)
    with full_queue() as port, pytest.raises(requests.ConnectTimeout):
        session.get(f"http://{NAME}:{port}/", timeout=(2, 600))
    assert 0 < sum(limits) <= 2


def test_the_next_address_is_tried(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer, args=(listener,))
        server.start()
        reply = session.post(f"http://{NAME}:{listener.getsockname()[1]}/", b"1", timeout=(HANG_SECONDS, HANG_SECONDS))
        server.join()
    assert reply.text == "OK"


def test_a_slow_line_is_no_stall(session: requests.Session) -> None:
    for stall in STALLS:
        with socket.socket() as listener, ThreadPoolExecutor(1) as pool:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            # At most 64 KiB are read before each pause: all of them take longer than a stall may.
            answering = pool.submit(answer, listener, pause=1.1 * stall * READ / len(BODY))
            begun = time.monotonic()
            with contextlib.suppress(requests.ConnectionError):
                reply = session.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", BODY, timeout=(stall, 600))
            if answering.exception(HANG_SECONDS) is None:
                break
    assert reply.text == "OK"
    assert time.monotonic() - begun > stall


def test_an_answer_is_freed_when_nobody_has_it(session: requests.Session) -> None:
    """Not by the garbage collector: it may free an unread answer's socket first, which is then said to be left open."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(answer, listener)
        gc.disable()
        try:
            with answers_explained():
                freed = weakref.ref(session.get(f"http://127.0.0.1:{listener.getsockname()[1]}/", stream=True))
            assert freed() is None
        finally:
            gc.enable()
