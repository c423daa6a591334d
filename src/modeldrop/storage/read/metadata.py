"""Whether this machine's metadata service can sign in: one or two small questions, about a second at most."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 1.0
_ADDRESS = "169.254.169.254"


def has_identity(scheme: str, config: Mapping[str, str]) -> bool:
    """Whether a machine in this scheme's cloud has an identity; ``config``: what obstore is told."""
    return {"s3": _has_aws_role, "gs": _has_google_account, "az": _has_azure_metadata}[scheme](config)


def _has_aws_role(config: Mapping[str, str]) -> bool:
    parts = urlsplit(config.get("metadata_endpoint") or f"http://{_ADDRESS}")
    host, port = parts.hostname or _ADDRESS, parts.port or 80
    status, token = _ask(host, port, f"PUT {parts.path}/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60")
    if status != 200:
        return False
    path = f"{parts.path}/latest/meta-data/iam/security-credentials/"
    return _ask(host, port, f"GET {path}", f"X-aws-ec2-metadata-token: {token}")[0] == 200


def _has_google_account(_config: Mapping[str, str]) -> bool:
    where = os.environ.get("GCE_METADATA_HOST") or os.environ.get("GCE_METADATA_IP") or _ADDRESS
    host, _, port = where.partition(":")
    path = "/computeMetadata/v1/instance/service-accounts/default/email"
    return _ask(host, int(port or 80), f"GET {path}", "Metadata-Flavor: Google")[0] == 200


def _has_azure_metadata(config: Mapping[str, str]) -> bool:
    parts = urlsplit(config["msi_endpoint"])
    # Without its header the service refuses at once, and by that says that it is there.
    request = f"GET {parts.path}?api-version=2018-02-01"
    return _ask(parts.hostname or "", parts.port or 80, request, "")[0] == 400


def _ask(host: str, port: int, request: str, header: str) -> tuple[int, str]:
    """Status and body of a small answer; 0 where there is none. No proxy is ever asked."""
    headers = [f"Host: {host}", "Connection: close", "Content-Length: 0", *([header] if header else [])]
    try:
        with socket.create_connection((host, port), _SECONDS) as connection:
            connection.sendall("\r\n".join([f"{request} HTTP/1.0", *headers, "", ""]).encode())
            data = b""
            while len(data) < 65536 and (chunk := connection.recv(4096)):
                data += chunk
    except OSError:
        return 0, ""
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return status, body.decode("latin-1").strip()
