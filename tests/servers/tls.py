"""TLS under a private CA before a server that speaks plain HTTP, and a real forward proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trustme

from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 16


class TlsServer:
    """``https://localhost:PORT`` before a plain server on 127.0.0.1; a context manager.

    Attributes:
        ca_file: the PEM file of the CA that signed its certificate.
        port: where it listens.
    """

    def __init__(self, upstream: int, folder: Path) -> None:
        self._upstream = upstream
        authority = trustme.CA()
        self.ca_file = str(folder / "private-ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # A client that does not trust the CA hangs up during the handshake.
        with (
            client,
            contextlib.suppress(OSError),
            self._context.wrap_socket(client, server_side=True) as secure,
            socket.create_connection(("127.0.0.1", self._upstream)) as server,
        ):
            back = threading.Thread(target=pipe, args=(server, secure), daemon=True)
            back.start()
            pipe(secure, server)
            back.join()


class ForwardProxy:
    """proxy.py, a real forward proxy, on a free port of 127.0.0.1; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "proxy.log"
        self._port_file = folder / "proxy.port"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--num-workers", "1"]
        command += ["--port-file", str(self._port_file), "--log-file", str(self._log)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (self._port_file.exists() and self._port_file.read_text().strip()):
            assert self._process.poll() is None, "proxy.py did not start"
            time.sleep(0.02)
        self.port = int(self._port_file.read_text())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(HANG_SECONDS)

    @property
    def url(self) -> str:
        """What HTTPS_PROXY is to be."""
        return f"http://127.0.0.1:{self.port}"


def pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
