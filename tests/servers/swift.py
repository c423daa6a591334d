"""OpenStack Swift behind its S3 middleware: an S3 look-alike that answers 501 to conditional writes.

It is what ``publish`` and ``doctor`` must refuse. From Debian's packages: a proxy, and one account, container
and object server with one ring each.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.s3 import create_bucket, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

_STORAGE = ("account", "container", "object")
_PROGRAMS = ("swift-ring-builder", "swift-proxy-server", *(f"swift-{kind}-server" for kind in _STORAGE))
_INSTALL = "apt-get install --no-install-recommends swift-proxy swift-account swift-container swift-object"
_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # a killed test leaves none of them behind
_START_SECONDS = HANG_SECONDS
_SWIFT = """\
[swift-hash]
swift_hash_path_prefix = tests
swift_hash_path_suffix = tests
[storage-policy:0]
name = Policy-0
default = yes
"""
_DEFAULT = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
"""
_SERVER = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
# The middleware signs in with "account:user". It wants a token cache, which need not answer.
_PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper proxy-logging cache listing_formats bulk s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_tests_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
"""


class SwiftServer:
    """See ``CloudServer``."""

    name = "swift"

    def __init__(self) -> None:
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        if missing:
            raise RuntimeError(f"Swift is not installed (no {', '.join(missing)}). On Debian: {_INSTALL}")
        self.port, *self._storage_ports = (own_port() for _ in range(1 + len(_STORAGE)))
        self._secret = secrets.token_hex(20)
        self._cleanup = contextlib.ExitStack()
        self.environment: Mapping[str, str] = environment(f"http://127.0.0.1:{self.port}", "tests:tester", self._secret)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(prefix="modeldrop-swift-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
            (folder / "devices" / "disk").mkdir(parents=True)
            (folder / "swift.conf").write_text(_SWIFT, "utf-8")
            for kind, port in zip(_STORAGE, self._storage_ports, strict=True):
                _make_ring(folder, kind, port)
                stack.enter_context(_daemon(folder, kind, port, _SERVER.format(kind=kind)))
            proxy = stack.enter_context(_daemon(folder, "proxy", self.port, _PROXY.format(secret=self._secret)))
            for port in (*self._storage_ports, self.port):
                _await_port(port, proxy, folder)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def registry(self) -> str:
        """The URL of a registry with a prefix, in a bucket of its own that exists and is empty."""
        return f"s3://{create_bucket(self.environment)}/models"


def _make_ring(folder: Path, kind: str, port: int) -> None:
    builder = str(folder / f"{kind}.builder")
    for arguments in ("create 2 1 0", f"add r1z1-127.0.0.1:{port}/disk 1", "rebalance"):
        command = ["swift-ring-builder", builder, *arguments.split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_environment())
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def _daemon(folder: Path, kind: str, port: int, config: str) -> Iterator[subprocess.Popen[bytes]]:
    path = folder / f"{kind}-server.conf"
    user = pwd.getpwuid(os.geteuid()).pw_name
    path.write_text(_DEFAULT.format(port=port, user=user, folder=folder) + config, "utf-8")
    with (folder / f"{kind}.out").open("wb") as output:
        process = subprocess.Popen(
            [*_WITH_US, f"swift-{kind}-server", str(path), "--verbose"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Debian's Python with Debian's packages, whatever environment this one runs in."""
    return {"PATH": os.defpath, "HOME": "/", "LANG": "C.UTF-8"}


def _await_port(port: int, proxy: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if proxy.poll() is not None or time.monotonic() > deadline:
                outputs = sorted(folder.glob("*.out"))
                words = "\n".join(f"{path.name}: {path.read_text('utf-8', 'replace')[-1500:]}" for path in outputs)
                raise RuntimeError(f"Swift did not start.\n{words}") from None
            time.sleep(0.05)
        else:
            return
