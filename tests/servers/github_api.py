"""A small GitHub REST API on 127.0.0.1: comments on pull requests, and artifacts.

It answers what docs.github.com describes for these calls, at /api/v3 as a GitHub Enterprise Server has them: pages,
the permissions of the job's token, and the redirection of an artifact to a store that refuses that token. It says
nothing about GitHub's own service.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.threaded import ThreadedServer

BASE = "/api/v3"
REPOSITORY_ID = 1296269
FORK_ID = 999


class GitHubServer(ThreadedServer):
    """The server; a context manager.

    Attributes:
        comments: by the number of the pull request, as the API has them.
        artifacts: as the API has them, the newest first; ``archives`` has their bytes by id.
        permissions: what the token may do, such as ``{"pull-requests": "write"}``.
        requests: method and path of each.
        documents: further answers, by the path below the API.
    """

    def __init__(self, token: str = "", permissions: Mapping[str, str] | None = None) -> None:
        super().__init__(_Handler, "github")
        self.token = token
        self.permissions = dict(permissions or {})
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.archives: dict[int, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.documents: dict[str, object] = {}
        self._last_comment = 1000

    @property
    def url(self) -> str:
        """Of the server; the API is below it."""
        return f"http://127.0.0.1:{self.port}"

    def comment(self, number: int, body: str, login: str = "octocat") -> dict[str, Any]:
        """Add a comment on a pull request."""
        kind = "Bot" if login.endswith("[bot]") else "User"
        self._last_comment += 1
        made = {
            "id": self._last_comment,
            "body": body,
            "user": {"login": login, "type": kind},
            "html_url": f"{self.url}/acme/models/pull/{number}#issuecomment",
        }
        self.comments.setdefault(number, []).append(made)
        return made

    def artifact(self, name: str, files: Mapping[str, bytes] | Path, *, head: int = REPOSITORY_ID, run: int = 7) -> int:
        """Add an artifact of a run of the repository, or of a pull request from the repository ``head``."""
        if isinstance(files, Path):
            files = {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path, data in files.items():
                archive.writestr(path, data)
        number = len(self.artifacts) + 1
        self.archives[number] = packed.getvalue()
        ids = {"id": run, "repository_id": REPOSITORY_ID, "head_repository_id": head}
        made = {"id": number, "name": name, "expired": False, "created_at": f"2026-11-{number:02}", "workflow_run": ids}
        self.artifacts.insert(0, made)
        return number


class _Handler(BaseHTTPRequestHandler):
    github: GitHubServer

    def do_GET(self) -> None:
        path, query = self._begin()
        if found := re.fullmatch(r"/store/(\d+)", path):
            if self.headers.get("Authorization"):  # as the stores of GitHub's artifacts do
                self._send(401, b"")
            else:
                self._send(200, self.github.archives[int(found[1])])
        elif found := re.fullmatch(r"/issues/(\d+)/comments", path):
            if self._may("pull-requests", "read"):
                self._json(200, self._page(self.github.comments.get(int(found[1]), []), query))
        elif path == "/actions/artifacts":
            if self._may("actions", "read"):
                named = [one for one in self.github.artifacts if one["name"] == query.get("name", one["name"])]
                self._json(200, {"total_count": len(named), "artifacts": self._page(named, query)})
        elif found := re.fullmatch(r"/actions/artifacts/(\d+)/zip", path):
            if self._may("actions", "read"):
                self._send(302, b"", {"Location": f"{self.github.url}/store/{found[1]}"})
        else:
            path = urlsplit(self.path).path.removeprefix(BASE)
            known = path in self.github.documents
            self._json(200 if known else 404, self.github.documents.get(path, {"message": "Not Found"}))

    def do_POST(self) -> None:
        path, _ = self._begin()
        found = re.fullmatch(r"/issues/(\d+)/comments", path)
        if found and self._may("pull-requests", "write"):
            self._json(201, self.github.comment(int(found[1]), self._body(), "github-actions[bot]"))

    def do_PATCH(self) -> None:
        path, _ = self._begin()
        found = re.fullmatch(r"/issues/comments/(\d+)", path)
        if found and self._may("pull-requests", "write"):
            every = (one for comments in self.github.comments.values() for one in comments)
            (comment,) = (one for one in every if one["id"] == int(found[1]))
            comment["body"] = self._body()
            self._json(200, comment)

    def do_DELETE(self) -> None:
        path, _ = self._begin()
        found = re.fullmatch(r"/issues/comments/(\d+)", path)
        if found and self._may("pull-requests", "write"):
            for comments in self.github.comments.values():
                comments[:] = [one for one in comments if one["id"] != int(found[1])]
            self._send(204, b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _begin(self) -> tuple[str, dict[str, str]]:
        split = urlsplit(self.path)
        self.github.requests.append((self.command, split.path))
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        return split.path.removeprefix(f"{BASE}/repos/acme/models"), query

    def _may(self, permission: str, right: str) -> bool:
        if self.headers.get("Authorization") != f"Bearer {self.github.token}":
            self._json(401, {"message": "Bad credentials", "status": "401"})
            return False
        if self.github.permissions.get(permission) in {right, "write"}:
            return True
        self._json(403, {"message": "Resource not accessible by integration", "status": "403"})
        return False

    def _body(self) -> str:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert len(document["body"]) <= 65536
        return str(document["body"])

    def _page(self, items: list[Any], query: Mapping[str, str]) -> list[Any]:
        size, page = int(query.get("per_page", "30")), int(query.get("page", "1"))
        return items[size * (page - 1) : size * page]

    def _json(self, status: int, document: object) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
