"""nginx with the settings that the page about web servers shows serves a registry, with the headers it tells of."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from modeldrop.storage.write.headers import cache_control
from tests.docs.pages import DOCS, blocks
from tests.helpers.builds import environment, publish_build, publisher_environment
from tests.helpers.command_line import modeldrop
from tests.helpers.ports import own_port
from tests.helpers.watch_process import eventually

__all__ = ["publisher_environment"]
pytestmark = pytest.mark.soak
_CONFIG = """\
{user}
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    {shown}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, root: Path, port: int) -> Iterator[Path]:
    """nginx as the page shows it; the file of the CA that vouches for it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "apt-get install --no-install-recommends nginx-light"
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    [block] = [block for block in blocks(DOCS / "storage/https.md") if block.language == "nginx"]
    shown = block.text
    for name, here in {
        "listen 443": f"listen 127.0.0.1:{port}",
        "models.acme.dev": "localhost",
        "/etc/acme/models.pem": f"{folder}/both.pem",
        "/etc/acme/models.key": f"{folder}/both.pem",
        "/srv/models": str(root),
    }.items():
        assert name in shown
        shown = shown.replace(name, here)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_CONFIG.format(user=user, folder=folder, shown=shown), "utf-8")
    server = subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf"])
    try:
        eventually(lambda: server.poll() is not None or _listens(port))
        assert server.poll() is None, "nginx does not take the settings"
        yield folder / "ca.pem"
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_a_registry_behind_nginx(tmp_path: Path) -> None:
    registry = tmp_path / "models"
    publish_build(registry)
    (registry / "embedder/v1/deltas.json").write_text("{}")
    port = own_port()
    (tmp_path / "nginx").mkdir()
    with nginx(tmp_path / "nginx", registry, port) as ca:
        url = f"https://localhost:{port}/embedder"
        fetched = modeldrop("fetch", url, "-d", tmp_path / "home", environment=environment(SSL_CERT_FILE=str(ca)))
        assert fetched.code == 0, fetched.err
        connection = http.client.HTTPSConnection("localhost", port, context=ssl.create_default_context(cafile=ca))
        keys = [
            "current",
            *(
                f"v1/{name}"
                for name in ("manifest.json", "claim.json", "deltas.json", "report.html", "onnx/model.onnx")
            ),
        ]
        for key in (f"embedder/{key}" for key in keys):
            connection.request("GET", f"/{key}")
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.headers["Cache-Control"]) == (200, cache_control(key)), key
        connection.request("GET", "/embedder/.tmp/")
        assert connection.getresponse().status == 404
        connection.close()
