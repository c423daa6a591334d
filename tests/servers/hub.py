"""A small Hugging Face Hub on 127.0.0.1.

It tests our client, and says nothing about Hugging Face's service: it answers the few requests that
huggingface_hub makes for models, with the headers and error codes that were seen there, and 501 for
everything else. Files go out whole (no CDN, no Xet).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.threaded import ThreadedServer

Files: TypeAlias = Mapping[str, bytes] | Path

LFS = (".safetensors", ".bin", ".pt", ".onnx", ".msgpack", ".h5")
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class HubRequest:
    """A request as it came in; ``path`` with its query, ``token`` from the Authorization header."""

    method: str
    path: str
    token: str | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer to give to every request whose path contains ``match``."""

    status: int
    match: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class Repo:
    """A repository: its commits by SHA, and what its branches and tags name."""

    repo_id: str
    gated: bool = False
    private: bool = False
    card: Mapping[str, Any] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, *, branch: str = "main") -> str:
        """Add a commit that holds exactly these files, move the branch to it and return its SHA."""
        held = _read(files)
        sha = hashlib.sha1(f"{self.repo_id} {len(self.commits)} {sorted(held)}".encode()).hexdigest()
        self.commits[sha] = held
        self.refs[branch] = sha
        return sha

    def tag(self, name: str, sha: str) -> None:
        """Let a tag name a commit."""
        self.refs[name] = sha

    def sha(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a SHA names."""
        return revision if revision in self.commits else self.refs.get(revision)


class HubServer(ThreadedServer):
    """The server; a context manager.

    Args:
        token: the one token that it knows. It opens private repositories, and gated ones if ``accepted``.
        accepted: whether the token's owner accepted the terms of gated repositories.
    """

    def __init__(self, *, token: str = "hf_" + "t" * 34, accepted: bool = False) -> None:
        super().__init__(_Handler, "hub")
        self.token = token
        self.accepted = accepted
        self.repos: dict[str, Repo] = {}
        self.requests: list[HubRequest] = []
        self._corrupt: set[tuple[str, str]] = set()
        self._failures: list[Failure] = []

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead there, and let a busy machine answer late."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_ETAG_TIMEOUT": f"{HANG_SECONDS:.0f}"}

    def add_repo(
        self,
        repo_id: str,
        files: Files | None = None,
        *,
        gated: bool = False,
        private: bool = False,
        commits: Sequence[Files] = (),
        card: Mapping[str, Any] | None = None,
    ) -> Repo:
        """Add a repository with one commit on ``main`` for each of ``commits``, then one for ``files``."""
        repo = self.repos[repo_id] = Repo(repo_id, gated, private, card or {})
        for held in commits:
            repo.commit(held)
        if files is not None:
            repo.commit(files)
        return repo

    def corrupt(self, repo_id: str, name: str) -> None:
        """From now on send other bytes of the same length for this file, under its old ETag."""
        self._corrupt.add((repo_id, name))

    def fail(self, status: int, *, match: str = "", headers: Mapping[str, str] | None = None) -> None:
        """From now on answer requests whose path contains ``match`` with this status."""
        self._failures.append(Failure(status, match, headers or {}))

    def recover(self) -> None:
        """Undo every ``corrupt`` and ``fail``."""
        self._corrupt.clear()
        self._failures.clear()

    def downloads(self) -> list[str]:
        """The names of the files that were asked for with GET, in order."""
        paths = (urlsplit(request.path).path for request in self.requests if request.method == "GET")
        return [unquote(found[3]) for found in map(_RESOLVE.fullmatch, paths) if found]

    def failure(self, path: str) -> Failure | None:
        """The failure that was ordered for a path."""
        return next((failure for failure in self._failures if failure.match in path), None)

    def body(self, repo: Repo, sha: str, name: str) -> bytes:
        """The bytes to send for a file."""
        data = repo.commits[sha][name]
        if (repo.repo_id, name) in self._corrupt and data:
            return data[:-1] + bytes([data[-1] ^ 0xFF])
        return data


def git_blob_id(data: bytes) -> str:
    """The id that git gives a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@functools.cache
def _sha256(data: bytes) -> str:
    """Kept, so that asking about a large file does not take as long as hashing it."""
    return hashlib.sha256(data).hexdigest()


def _lfs(name: str, data: bytes) -> dict[str, Any] | None:
    if not name.endswith(LFS):
        return None
    return {"sha256": _sha256(data), "size": len(data), "pointerSize": 134}


def _pointer(data: bytes) -> bytes:
    digest = _sha256(data)
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n".encode()


def _read(files: Files) -> dict[str, bytes]:
    if not isinstance(files, Path):
        return dict(files)
    return {p.relative_to(files).as_posix(): p.read_bytes() for p in sorted(files.rglob("*")) if p.is_file()}


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer  # set by the subclass that each server makes
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    do_PUT = do_DELETE = do_PATCH = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``requests``."""

    def _handle(self) -> None:
        given = self.headers.get("Authorization")
        token = given.removeprefix("Bearer ") if given and given.startswith("Bearer ") else None
        self.hub.requests.append(HubRequest(self.command, self.path, token, dict(self.headers.items())))
        path = urlsplit(self.path).path
        failure = self.hub.failure(self.path)
        api, resolve = _API.fullmatch(path), _RESOLVE.fullmatch(path)
        if failure is not None:
            self._send(failure.status, b"", failure.headers)
        elif self.command not in ("GET", "HEAD") or not (api or resolve):
            self._send(501, b"this test server does not know this request", {})
        elif given and token != self.hub.token:
            message = "Invalid credentials in Authorization header"
            self._send(401, b"", {"X-Error-Message": message})
        elif api:
            self._api(api[1], api[2], unquote(api[3] or "main"), known=bool(token))
        elif resolve:
            self._resolve(resolve[1], unquote(resolve[2]), unquote(resolve[3]), known=bool(token))

    def _find(self, repo_id: str, revision: str, *, known: bool) -> tuple[Repo, str] | None:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and not known):
            # To a stranger, the Hub does not tell the private from the missing.
            self._error(404 if known else 401, "RepoNotFound", "Repository not found")
            return None
        sha = repo.sha(revision)
        if sha is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo, sha

    def _api(self, repo_id: str, what: str | None, revision: str, *, known: bool) -> None:
        query = parse_qs(urlsplit(self.path).query)
        found = self._find(repo_id, revision, known=known)
        if found is None:
            return
        repo, sha = found
        held = repo.commits[sha]
        if what == "tree":
            self._json([_tree_entry(name, data) for name, data in held.items()])
            return
        blobs = query.get("blobs", [""])[0].lower() in ("true", "1")
        siblings = [_sibling(name, data, blobs) for name, data in held.items()]
        info: dict[str, Any] = {
            "id": repo_id,
            "modelId": repo_id,
            "sha": sha,
            "siblings": siblings,
            "tags": [],
        }
        info |= {"private": repo.private, "gated": "auto" if repo.gated else False}
        self._json(info | ({"cardData": dict(repo.card)} if repo.card else {}))

    def _resolve(self, repo_id: str, revision: str, name: str, *, known: bool) -> None:
        found = self._find(repo_id, revision, known=known)
        if found is None:
            return
        repo, sha = found
        if repo.gated and not (known and self.hub.accepted):
            self._error(403 if known else 401, "GatedRepo", f"Access to model {repo_id} is restricted.")
            return
        if name not in repo.commits[sha]:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
            return
        stored, data = repo.commits[sha][name], self.hub.body(repo, sha, name)
        lfs = _lfs(name, stored)
        headers = {
            "ETag": f'"{lfs["sha256"] if lfs else git_blob_id(stored)}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
        }
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted is None:
            self._send(200, data, headers)
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if first > last:
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(206, data[first : last + 1], headers)

    def _json(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        told = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self._send(status, body, told | dict(headers or {}))

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sibling(name: str, data: bytes, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": name}
    lfs = _lfs(name, data)
    blob_id = git_blob_id(_pointer(data) if lfs else data)
    return {"rfilename": name, "size": len(data), "blobId": blob_id} | ({"lfs": lfs} if lfs else {})


def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
    lfs = _lfs(name, data)
    entry = {"type": "file", "path": name, "size": len(data)}
    entry["oid"] = git_blob_id(_pointer(data) if lfs else data)
    return entry | ({"lfs": {"oid": lfs["sha256"], "size": len(data), "pointerSize": 134}} if lfs else {})
