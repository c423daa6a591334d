"""The metadata services of three clouds, which lend a machine its identity."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from tests.servers.threaded import ThreadedServer

if TYPE_CHECKING:
    from email.message import Message


class Metadata(ThreadedServer):
    """The metadata services of three clouds on a free port; a context manager.

    Its credentials are about to expire, so that every request needs new ones.

    Attributes:
        host: where it is, with its port.
        given: how many credentials it gave.
        refusal: the status that it answers with instead, 0 for none.
    """

    def __init__(self) -> None:
        super().__init__(_Handler, "metadata")
        self.given = 0
        self.refusal = 0
        self.host = f"127.0.0.1:{self.port}"

    def answer(self, path: str, headers: Message) -> tuple[int, str]:
        """Status and body for a request."""
        soon = datetime.now(UTC) + timedelta(minutes=2)
        if self.refusal:
            return self.refusal, ""
        if path == "/latest/api/token":
            return 200, "session"
        if path == "/container" and headers["Authorization"] != "secret":
            return 401, ""
        if path.startswith("/latest/meta-data/iam/security-credentials"):
            if headers["X-aws-ec2-metadata-token"] != "session":
                return 401, ""
            if not path.endswith("/reader"):
                return 200, "reader"
        if path.endswith(("/reader", "/container")):
            self.given += 1
            keys = {"AccessKeyId": f"AKIDMETA{self.given}", "SecretAccessKey": "x", "Token": "t"}
            return 200, json.dumps(keys | {"Expiration": f"{soon:%Y-%m-%dT%H:%M:%SZ}"})
        if path.startswith("/metadata/identity/oauth2/token") and headers["Metadata"] != "true":
            return 400, ""
        if path.endswith("/email"):
            return 200, "reader@acme.example"
        self.given += 1
        token = {"access_token": f"meta{self.given}", "token_type": "Bearer", "expires_on": f"{soon.timestamp():.0f}"}
        return 200, json.dumps(token | {"expires_in": 120})


class _Handler(BaseHTTPRequestHandler):
    metadata: Metadata  # set by the subclass that each server makes

    def do_GET(self) -> None:
        status, text = self.metadata.answer(self.path, self.headers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""
