"""``modeldrop watch`` in a process of its own, and a web server that it posts to."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.builds import environment
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SECONDS = HANG_SECONDS


def eventually(what: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Watch:
    """``modeldrop watch`` in a process of its own; what it says is read by a thread.

    Args:
        arguments: what follows ``watch``.
        program: how to start modeldrop.
        more: variables of its environment.
    """

    def __init__(
        self, *arguments: str | Path, program: Sequence[str] = (sys.executable, "-m", "modeldrop"), **more: str
    ) -> None:
        command = [*program, "watch", "--interval", "1s", *map(str, arguments)]
        self.process = subprocess.Popen(command, env=environment(**more), stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def says(self, text: str) -> None:
        end = time.monotonic() + SECONDS
        while not any(text in line for line in list(self.lines)):
            assert time.monotonic() < end, self.lines
            assert self._reading.is_alive(), self.lines
            time.sleep(0.02)

    def ends(self) -> int:
        code = self.process.wait(SECONDS)
        self._reading.join(SECONDS)
        return code

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reading.join(SECONDS)
        assert not self._reading.is_alive(), "something that a hook started is still there"
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watch]]:
    started: list[Watch] = []

    def start(*arguments: str | Path, **more: Any) -> Watch:
        started.append(Watch(*arguments, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def link(home: Path, name: str = "current", model: str = "embedder") -> str:
    try:
        return (home / model / name).readlink().name.partition("-")[0]
    except OSError:
        return ""


class Webhook:
    """A small HTTP server that notes JSON documents."""

    def __init__(self) -> None:
        self.documents: list[Any] = []
        self.authorizations: list[str | None] = []
        self.status = 204


@pytest.fixture
def webhook() -> Iterator[tuple[Webhook, str]]:
    found = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.documents.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            found.authorizations.append(self.headers["Authorization"])
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found, f"http://127.0.0.1:{server.server_address[1]}/reload"
    server.shutdown()
    server.server_close()
    thread.join()
