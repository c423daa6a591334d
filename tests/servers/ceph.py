"""A real Ceph, as small as it gets: one monitor, one OSD that keeps everything in memory, one S3 gateway.

From Debian's packages, as root or not, in a folder of its own. No manager daemon: the gateway needs none.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.s3 import create_bucket, environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_INSTALL = "apt-get install --no-install-recommends ceph-mon ceph-osd radosgw"
_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # a killed test leaves none of them behind
_START_SECONDS = HANG_SECONDS
_CONFIG = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
paxos propose interval = 0.05
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {memory}
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
pid file = {folder}/$name.pid
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
crash dir = {folder}/crash
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
# What is deleted frees its memory at once.
rgw gc obj min wait = 1
rgw gc processor period = 1
ms crc data = false
debug ms = 0/0
debug rgw = 0/0
debug osd = 0/0
debug mon = 0/0
debug bluestore = 0/0
debug beacon = 0/0
"""


_KEYRING = """\
[mon.]
key = {key}
caps mon = "allow *"
[osd.0]
key = {key}
caps mon = "allow *"
caps osd = "allow *"
[client.admin]
key = {key}
caps mon = "allow *"
caps osd = "allow *"
"""


class CephServer:
    """See ``CloudServer``.

    Args:
        gigabytes: how much it may hold, in memory.
    """

    name = "ceph"

    def __init__(self, *, gigabytes: int = 4) -> None:
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        if missing:
            raise RuntimeError(f"Ceph is not installed (no {', '.join(missing)}). On Debian: {_INSTALL}")
        self.port, self._mon_port = own_port(), own_port()
        self._bytes = gigabytes << 30
        self._folder = Path(tempfile.mkdtemp(prefix="modeldrop-ceph-"))
        self._daemons: list[subprocess.Popen[bytes]] = []
        key_id, secret = secrets.token_hex(10).upper(), secrets.token_hex(20)
        self.environment: Mapping[str, str] = environment(f"http://127.0.0.1:{self.port}", key_id, secret)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def registry(self) -> str:
        """The URL of a registry with a prefix, in a bucket of its own that exists and is empty."""
        return f"s3://{create_bucket(self.environment)}/models"

    def _start(self) -> None:
        fsid = str(uuid.uuid4())
        config = _CONFIG.format(
            fsid=fsid, folder=self._folder, port=self.port, mon_port=self._mon_port, memory=self._bytes
        )
        for name in ("mon", "osd", "rgw", "crash"):
            (self._folder / name).mkdir()
        (self._folder / "ceph.conf").write_text(config, "utf-8")
        key = self._run("ceph-authtool", "--gen-print-key").strip()
        (self._folder / "keyring").write_text(_KEYRING.format(key=key), "utf-8")
        monmap = str(self._folder / "monmap")
        address = f"[v2:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", str(self._folder / "keyring"))
        self._daemon("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-i", "0")
        self._run(
            *("radosgw-admin", "user", "create", "--uid=tests", "--display-name=tests"),
            *("--access-key", self.environment["AWS_ACCESS_KEY_ID"]),
            *("--secret-key", self.environment["AWS_SECRET_ACCESS_KEY"]),
        )
        self._daemon("radosgw", "-n", "client.admin")
        self._wait()

    def _stop(self) -> None:
        for daemon in self._daemons:  # all they hold is in memory: there is nothing to finish
            daemon.kill()
            daemon.wait()
        self._daemons.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [*command, "-c", str(self._folder / "ceph.conf")],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def _daemon(self, *command: str) -> None:
        with (self._folder / f"{command[0]}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    [*_WITH_US, *command, "-f", "-c", str(self._folder / "ceph.conf")],
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=os.environ | {"TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES": str(128 << 20)},
                )
            )

    def _wait(self) -> None:
        """Until the gateway answers."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(self.environment["AWS_ENDPOINT_URL_S3"], timeout=5):
                    return
            except urllib.error.HTTPError as error:
                with error:
                    return  # it answers, and does not know us
            except OSError:
                ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(f"Ceph did not start; ended: {ended or 'none'}\n{self._last_words()}") from None
            time.sleep(0.1)

    def _last_words(self) -> str:
        outputs = sorted(self._folder.glob("*.out"))
        return "\n".join(f"{path.name}: {path.read_text('utf-8', 'replace')[-1500:]}" for path in outputs)
