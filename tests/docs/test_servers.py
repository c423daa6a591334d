"""The programs of the page about servers, in a real gunicorn and in an event loop."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modeldrop.registry.channels import promote
from modeldrop.storage.write import open_store
from tests.docs.pages import DOCS, blocks
from tests.fetcher.crash_setup import publish_seed
from tests.helpers.builds import environment, publisher_environment
from tests.helpers.waiting import HANG_SECONDS, wait_until

__all__ = ["publisher_environment"]
SERVICE, CONFIGURATION, LIFESPAN, _ = [
    block.text for block in blocks(DOCS / "servers.md") if block.language == "python"
]
URL = "s3://acme-models/embedder"


class Connection(http.client.HTTPConnection):
    """To a server behind a socket of the file system."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(HANG_SECONDS)
        self.sock.connect(self.host)


def answer(path: Path) -> str:
    connection = Connection(str(path))
    try:
        connection.request("GET", "/", headers={"Host": "localhost"})
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def here(text: str, registry: str) -> str:
    assert URL in text
    return text.replace(URL, f"{registry}/embedder").replace("load)", "load, interval=0.1)")


@pytest.mark.parametrize("preloaded", [True, False], ids=["preloaded", "in the worker"])
def test_gunicorn_serves_what_the_page_shows(preloaded: bool, tmp_path: Path) -> None:
    registry = str(tmp_path / "registry")
    publish_seed(registry, tmp_path, "a")
    publish_seed(registry, tmp_path, "b")
    promote(open_store(registry), "embedder", 1, "current", by="dana")
    service = here(SERVICE, registry)
    if not preloaded:
        [watching] = [line for line in service.splitlines() if line.startswith("watcher = ")]
        service = service.replace(f"{watching}\nwatcher.wait()\n", "watcher = None\n")
        (tmp_path / "gunicorn.conf.py").write_text(here(CONFIGURATION, registry))
    (tmp_path / "service.py").write_text(f"def Model(file):\n    return file.read_bytes()\n\n\n{service}")
    bind = tmp_path / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", f"unix:{bind}", "service:app"],
        cwd=tmp_path,
        env=environment(MODELDROP_HOME=str(tmp_path / "home")),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: answer(bind) == "v1\n", "the first version")
        promote(open_store(registry), "embedder", 2, "current", by="dana")
        wait_until(lambda: {answer(bind) for _ in range(10)} == {"v2\n"}, "all workers to move")
    finally:
        server.terminate()
        errors = server.communicate(timeout=HANG_SECONDS)[1]
    assert server.returncode == 0, errors


def test_a_lifespan_follows_the_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = str(tmp_path / "registry")
    publish_seed(registry, tmp_path, "a")
    monkeypatch.setenv("MODELDROP_HOME", str(tmp_path / "home"))
    page: dict[str, Any] = {"Model": Path.read_bytes}
    exec(here(LIFESPAN, registry), page)
    app = SimpleNamespace(state=SimpleNamespace(model=None))

    async def serve() -> None:
        async with page["lifespan"](app):
            await asyncio.to_thread(wait_until, lambda: app.state.model)

    asyncio.run(asyncio.wait_for(serve(), HANG_SECONDS))
