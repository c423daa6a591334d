"""An HTTP server in threads of this process."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a busy machine accepts late, and whoever finds the queue full waits for seconds

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients hang up when they like."""


class ThreadedServer:
    """Answers on a free port of 127.0.0.1 between ``with`` and its end.

    Args:
        handler: answers the requests.
        name: the handler's attribute that is to be this server.

    Attributes:
        port: where it listens.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], name: str) -> None:
        self._server = _Quiet(("127.0.0.1", 0), type("Handler", (handler,), {name: self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
