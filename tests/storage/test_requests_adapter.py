from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from modeldrop.storage.requests_adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "storage.test"
STALL, PAUSE = 3.0, 0.008


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxies
        session.mount("http://", Adapter())
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
            left -= len(connection.recv(min(left, 64 << 10)))
            time.sleep(pause)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")


def test_all_addresses_of_a_name_share_one_timeout(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, [f"127.0.0.{last}" for last in range(1, 17)])
    with full_queue() as port:
        begun = time.monotonic()
        with pytest.raises(requests.ConnectTimeout):
            session.get(f"http://{NAME}:{port}/", timeout=(2, 600))
        assert time.monotonic() - begun < 32  # what sixteen times two seconds would take


def test_the_next_address_is_tried(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer, args=(listener,))
        server.start()
        reply = session.post(f"http://{NAME}:{listener.getsockname()[1]}/", b"1", timeout=(5, 5))
        server.join()
    assert reply.text == "OK"


def test_a_slow_line_is_no_stall(session: requests.Session) -> None:
    body = bytes(24 << 20)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = threading.Thread(target=answer, args=(listener,), kwargs={"pause": PAUSE})
        server.start()
        begun = time.monotonic()
        reply = session.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", body, timeout=(STALL, 600))
        server.join()
    assert reply.text == "OK"
    assert time.monotonic() - begun > STALL  # 384 times at most 64 KiB, with a pause after each
