"""Debian's docker-registry (CNCF distribution), a real container registry, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS, wait_until

_INSTALL = "apt-get install --no-install-recommends docker-registry skopeo buildah"


class DockerRegistry:
    """A context manager.

    Args:
        folder: for all that it writes.

    Attributes:
        host: its address, as images are called after it.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in ("docker-registry", "skopeo", "buildah") if shutil.which(name) is None]
        if missing:
            raise RuntimeError(f"No {' or '.join(missing)} here: {_INSTALL}")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"127.0.0.1:{own_port()}"

    def __enter__(self) -> Self:
        settings = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "registry")}},
            "http": {"addr": self.host},
        }
        path = self._folder / "registry.yml"
        path.write_text(json.dumps(settings), "utf-8")  # JSON is YAML, too
        with (self._folder / "registry.log").open("wb") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", path], stdout=log, stderr=log, env=os.environ)
        wait_until(self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(HANG_SECONDS)

    def empty(self) -> None:
        """Forget all that was pushed."""
        shutil.rmtree(self._folder / "registry", ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "registry.log").read_text("utf-8")
        try:
            with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=HANG_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
