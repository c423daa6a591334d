"""A package index on 127.0.0.1, with what the action's small environments need and nothing else.

``make test`` downloads it into ``.wheels`` (``python -m tests.servers.wheels``), so that tests install with the real
pip, offline: PIP_INDEX_URL, which users behind a mirror set, names this server.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from modeldrop.export.environments.locks import locked_platform
from tests.servers.threaded import ThreadedServer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".wheels"
_LOCKS = ("plan.txt", "plan-hub.txt", "plan-s3.txt")
_PINNED = re.compile(r"^([\w.-]+==[\w.+!-]+)", re.MULTILINE)
_ATTEMPTS = 3


class WheelServer(ThreadedServer):
    """The index; a context manager. ``requests`` are the paths that were asked for."""

    def __init__(self) -> None:
        super().__init__(_Handler, "index")
        self.files = {path.name: path for path in FOLDER.glob("*.whl")}
        self.requests: list[str] = []
        if not self.files:
            raise RuntimeError(f"{FOLDER} is empty: `make test` fills it.")

    @property
    def url(self) -> str:
        """What PIP_INDEX_URL is to be."""
        return f"http://127.0.0.1:{self.port}/simple/"

    def page(self, project: str) -> str | None:
        """The links to a project's files, as PEP 503 wants them."""
        links = [f'<a href="/files/{html.escape(name)}">{name}</a>' for name in self.files if _project(name) == project]
        return "<!DOCTYPE html>" + "".join(links) if links else None


def download() -> None:
    """Fill the folder with what the lock files pin, for the interpreter that runs this.

    Raises:
        RuntimeError: pip failed, several times.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # Elsewhere the action takes the locks' versions, and pip finds out what else they need.
    command += ["--no-deps"] if locked_platform() else []
    command += ["--only-binary=:all:", "--dest", str(FOLDER), *pinned(ROOT / "requirements" / name for name in _LOCKS)]
    for _ in range(_ATTEMPTS):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    raise RuntimeError(f"pip could not download the wheels:\n{done.stdout}{done.stderr}")


def pinned(locks: Iterable[Path]) -> list[str]:
    """What lock files name, as name==version."""
    return sorted({found for lock in locks for found in _PINNED.findall(lock.read_text("utf-8"))})


def _project(wheel: str) -> str:
    return re.sub(r"[-_.]+", "-", wheel.partition("-")[0]).lower()


class _Handler(BaseHTTPRequestHandler):
    index: WheelServer  # set by the subclass that each server makes
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.index.requests.append(self.path)
        kind, _, name = self.path.strip("/").partition("/")
        file = self.index.files.get(unquote(name)) if kind == "files" else None
        page = self.index.page(name) if kind == "simple" else None
        body = file.read_bytes() if file else (page or "").encode()
        self.send_response(200 if file or page else 404)
        self.send_header("Content-Type", "application/octet-stream" if file else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``requests``."""


if __name__ == "__main__":
    try:
        download()
    except RuntimeError as error:
        sys.exit(str(error))
