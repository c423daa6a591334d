"""A fast S3 bucket to read from: nginx on a free port of 127.0.0.1, from Debian's package, with a config of its own.

It answers GET, HEAD and Range on path-style addresses, with strong ETags and If-Match, as fast as this machine can
send files. It knows no listing and no writing, and looks at no signature. A bucket without a key is answered with
403, because nginx's own redirect makes botocore ask for ever.
"""

from __future__ import annotations

import http.client
import itertools
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import trustme

from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.s3 import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_INSTALL = "apt-get install --no-install-recommends nginx-light"
_WITH_US = ("setpriv", "--pdeathsig", "TERM")  # a killed benchmark leaves no server behind
_SECONDS = HANG_SECONDS
_STATUS = "/.nginx-status"
# The limit works by waiting after each chunk but the last: large ones would let small requests pass unlimited.
_CHUNK = "512k"
_TLS = " ssl;\n    ssl_certificate {folder}/server.pem;\n    ssl_certificate_key {folder}/server.pem"
_CONFIG = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
  log_format bytes '$msec $request_time $request_method $status $body_bytes_sent $request_uri';
  access_log {folder}/access.log bytes;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 65;
  keepalive_requests 100000;
  server_tokens off;
  {limit}
  server {{
    listen 127.0.0.1:{port} backlog=1024{tls};
    root {root};
    location = {status} {{ access_log off; stub_status; }}
    location ~ ^/[^/]*/?$ {{ error_page 403 /.denied; return 403; }}
    location = /.denied {{
      internal;
      default_type application/xml;
      return 403 '<Error><Code>AccessDenied</Code><Message>This bucket cannot be listed.</Message></Error>';
    }}
    location / {{
      try_files $uri =404;
      error_page 404 /.missing;
      limit_except GET {{ deny all; }}
    }}
    location = /.missing {{
      internal;
      default_type application/xml;
      return 404 '<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>';
    }}
    {locations}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """A request that was answered, or cut off: seconds since 1970 at its end, how long it took, body bytes sent."""

    at: float
    seconds: float
    method: str
    status: int
    sent: int
    path: str


class NginxServer:
    """The server; a context manager.

    Args:
        folder: its folders are the buckets.
        rate: bytes per second that one connection brings at most; 0 for no limit. S3 behaves like 40 MB/s.
        locations: more ``location`` blocks of nginx's language.
        tls: speak TLS, with a certificate of a CA of its own.

    Attributes:
        environment: what an S3 client's environment must hold to reach it.
        port: where it listens.
    """

    name = "nginx"

    def __init__(self, folder: Path, *, rate: int = 0, locations: str = "", tls: bool = False) -> None:
        # Debian has it where only root's PATH leads.
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise RuntimeError(f"nginx is not installed. On Debian: {_INSTALL}")
        self._program = program
        self._root = folder
        self._rate = rate
        self._locations = locations
        self._tls = tls
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0
        self.port = 0
        self.environment: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="modeldrop-nginx-"))
        self.port = own_port()
        self.environment = environment(self.endpoint) | (self._certify() if self._tls else {})
        config = _CONFIG.format(
            # Its workers would become nobody, who may not look into a temporary folder of root's.
            user="user root;" if os.geteuid() == 0 else "",
            folder=self._folder,
            limit=f"limit_rate {self._rate};\n  sendfile_max_chunk {_CHUNK};" if self._rate else "",
            port=self.port,
            tls=_TLS.format(folder=self._folder) if self._tls else "",
            root=self._root,
            status=_STATUS,
            locations=self._locations,
        )
        (self._folder / "nginx.conf").write_text(config, "utf-8")
        command = [*_WITH_US, self._program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        command += ["-e", str(self._folder / "error.log")]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget the requests so far."""
        self._settle()
        self._seen = len(self._lines())

    def requests(self, *, settled: bool = True) -> list[LoggedAnswer]:
        """All that was answered since ``reset``.

        Args:
            settled: wait for the end of requests that are being answered.
        """
        if settled:
            self._settle()
        return [_parse(line) for line in self._lines()[self._seen :]]

    def sent(self) -> int:
        """Bytes that it has sent since it started, with those of requests that it is still answering."""
        assert self._process is not None
        workers = psutil.Process(self._process.pid).children()
        return sum(int(worker.io_counters().write_chars) for worker in workers)

    def _lines(self) -> list[str]:
        text = (self._folder / "access.log").read_text("utf-8", "replace")
        return text[: text.rfind("\n") + 1].splitlines()

    def _settle(self) -> None:
        """Wait until nothing is being sent: its one worker has then logged everything."""
        deadline = time.monotonic() + _SECONDS
        # One request is being answered: the one that asks.
        while b"Writing: 1 " not in self._ask(_STATUS):
            if time.monotonic() > deadline:
                raise RuntimeError("nginx does not come to rest.")
            time.sleep(0.02)

    def _ask(self, path: str) -> bytes:
        address, seconds = ("127.0.0.1", self.port), _SECONDS
        connection = http.client.HTTPConnection(*address, timeout=seconds)
        if self._tls:
            trust = ssl.create_default_context(cafile=self.environment["SSL_CERT_FILE"])
            connection = http.client.HTTPSConnection(*address, timeout=seconds, context=trust)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self._ask(_STATUS)
                return
            except OSError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    words = (self._folder / "output").read_text("utf-8", "replace")
                    raise RuntimeError(f"nginx did not start: {words[-2000:]}") from None
            time.sleep(0.01)

    def _certify(self) -> dict[str, str]:
        """Write a certificate for it; returns what a client's environment must hold to trust it."""
        authority, trusted = trustme.CA(), self._folder / "ca.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(self._folder / "server.pem")
        authority.cert_pem.write_to_path(trusted)
        return dict.fromkeys(("SSL_CERT_FILE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(trusted))

    def _stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def at_once(answers: Sequence[LoggedAnswer]) -> int:
    """The most requests that were being answered at the same time."""
    ends = [(answer.at, -1) for answer in answers]
    changes = sorted([*ends, *((answer.at - answer.seconds, 1) for answer in answers)])
    return max(itertools.accumulate(change for _, change in changes), default=0)


def _parse(line: str) -> LoggedAnswer:
    at, seconds, method, status, sent, path = line.split(" ", 5)
    return LoggedAnswer(
        at=float(at), seconds=float(seconds), method=method, status=int(status), sent=int(sent), path=path
    )
