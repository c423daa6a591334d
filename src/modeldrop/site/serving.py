"""Serve a registry's pages on this machine: read-only, to this machine alone.

Any page in this browser may send requests to 127.0.0.1. So nothing here can be changed by one, a request that names
another host is refused (a name of others' may lead here), and no other page may show or read what is served.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from modeldrop._version import __version__
from modeldrop.errors import DiskError, ModeldropError
from modeldrop.format.keys import version_number
from modeldrop.format.names import NAME, OWN_FILES
from modeldrop.site.places import SITE_FOLDER
from modeldrop.storage.write.headers import content_type

Read = Callable[[str], bytes | None]
"""An object of the registry by its key, None if there is none."""

_FIRST = f"/{SITE_FOLDER}/index.html"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """Serves pages, and the documents beside the models, on 127.0.0.1.

    Args:
        read: gives a page or a document.
        port: where; 0 for any that is free.

    Raises:
        DiskError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, read: Read, port: int) -> None:
        self.read = read
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise DiskError(
                f"Port {port} of this machine cannot be used: {error.strerror or error}.", "Name another: --port 0."
            ) from None

    @property
    def address(self) -> str:
        """Where a browser finds the pages."""
        return f"http://127.0.0.1:{self.server_port}{_FIRST}"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version = f"modeldrop/{__version__}"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer with a page or a document."""
        port = self.server.server_port
        if self.headers.get("Host") not in {f"127.0.0.1:{port}", f"localhost:{port}"}:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", b"Only 127.0.0.1 is served.\n")
            return
        path = unquote(urlsplit(self.path).path)
        if path in {"/", f"/{SITE_FOLDER}", f"/{SITE_FOLDER}/"}:
            self._answer(HTTPStatus.FOUND, "text/plain; charset=utf-8", b"", {"Location": _FIRST})
            return
        key = path.removeprefix("/")
        try:
            data = self.server.read(key) if is_shown(key) else None
        except ModeldropError as error:
            self._answer(HTTPStatus.BAD_GATEWAY, "text/plain; charset=utf-8", f"{error}\n".encode())
            return
        if data is None:
            what = b"There is no such page. Files of models are not served: modeldrop fetch brings them.\n"
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", what)
        else:
            self._answer(HTTPStatus.OK, content_type(key), data)

    do_HEAD = do_GET  # noqa: N815  as http.server calls it

    def _answer(self, status: HTTPStatus, kind: str, data: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | (more or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the library's name
        """Say nothing of each request."""


def is_shown(key: str) -> bool:
    """Whether a key is that of a page, or of a document that pages link; never that of a model's file."""
    first, *rest = key.split("/")
    if not rest or any(part in {"", ".", ".."} or not part.isprintable() for part in rest):
        return False
    if first == SITE_FOLDER:
        return True
    if len(rest) != 2 or rest[1] not in OWN_FILES:
        return False
    return bool(NAME.fullmatch(first)) and version_number(rest[0]) is not None
