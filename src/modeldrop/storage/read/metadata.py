"""Asking the metadata service of a machine or container whether it has an identity, and AWS's for keys."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modeldrop.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS = "169.254.169.254"
QUICK_SECONDS = 1.0
PATIENT_SECONDS = 8.0
_VARIABLES = {
    "s3": ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT"),
    "gs": ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"),
    "az": ("AZURE_POD_IDENTITY_AUTHORITY_HOST",),
}
_VENDORS = {"s3": "Amazon EC2", "gs": "Google", "az": "Microsoft Corporation"}
_TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105  its name
_VENDOR_FILE = "/sys/class/dmi/id/sys_vendor"


class Identity(Enum):
    """What a metadata service says."""

    THERE = "it has an identity"
    ABSENT = "it answers, and has none"
    UNKNOWN = "it does not answer, or is in trouble"


def ask_identity(scheme: str, config: Mapping[str, str], seconds: float) -> Identity:
    """Whether the metadata service of this machine can sign in: one or two small requests.

    Args:
        scheme: ``s3``, ``gs`` or ``az``.
        config: the settings for obstore, with the service's address.
        seconds: how long to wait for each answer.
    """
    return {"s3": _ask_aws, "gs": _ask_google, "az": _ask_azure}[scheme](config, seconds)


def may_come(scheme: str) -> bool:
    """Whether a metadata service that does not answer is worth waiting for: here there should be one.

    In a pod it often starts after the container does; on a laptop there is none.
    """
    if os.environ.get("KUBERNETES_SERVICE_HOST") or any(os.environ.get(name) for name in _VARIABLES[scheme]):
        return True
    try:
        with open(_VENDOR_FILE, encoding="utf-8") as file:  # noqa: PTH123
            return file.read().startswith(_VENDORS[scheme])
    except (OSError, UnicodeDecodeError):
        return False


def _ask_aws(config: Mapping[str, str], seconds: float) -> Identity:
    parts = urlsplit(config.get("metadata_endpoint") or f"http://{ADDRESS}")
    host, port = parts.hostname or ADDRESS, parts.port or 80
    ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60"
    status, token = _ask(host, port, f"PUT {parts.path}/latest/api/token", ttl, seconds)
    if status != 200:
        return _meaning(status)
    path = f"{parts.path}/latest/meta-data/iam/security-credentials/"
    return _meaning(_ask(host, port, f"GET {path}", f"X-aws-ec2-metadata-token: {token}", seconds)[0])


def _ask_google(_config: Mapping[str, str], seconds: float) -> Identity:
    where = os.environ.get("GCE_METADATA_HOST") or os.environ.get("GCE_METADATA_IP") or ADDRESS
    parts = urlsplit(f"http://{where}")
    path = "/computeMetadata/v1/instance/service-accounts/default/email"
    status, _ = _ask(parts.hostname or ADDRESS, parts.port or 80, f"GET {path}", "Metadata-Flavor: Google", seconds)
    return _meaning(status)


def _ask_azure(config: Mapping[str, str], seconds: float) -> Identity:
    parts = urlsplit(config["msi_endpoint"])
    # Without its header the service refuses at once, and by that says that it is there.
    request = f"GET {parts.path}?api-version=2018-02-01"
    return _meaning(_ask(parts.hostname or "", parts.port or 80, request, "", seconds)[0], there=400)


def _meaning(status: int, there: int = 200) -> Identity:
    if status == there:
        return Identity.THERE
    return Identity.UNKNOWN if status in {0, 429} or status >= 500 else Identity.ABSENT


def _ask(host: str, port: int, request: str, header: str, seconds: float) -> tuple[int, str]:
    """Status and body of a small answer; 0 where there is none. Never through a proxy."""
    import socket

    from modeldrop.util.retry import Deadline

    limit = Deadline(4 * seconds)  # of all of it: each byte could come just in time
    headers = [f"Host: {host}", "Connection: close", "Content-Length: 0", *([header] if header else [])]
    try:
        with socket.create_connection((host, port), seconds) as connection:
            connection.sendall("\r\n".join([f"{request} HTTP/1.0", *headers, "", ""]).encode())
            data = b""
            while len(data) < 65536 and limit.left() and (chunk := connection.recv(4096)):
                data += chunk
    except OSError:
        return 0, ""
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return status, body.decode("latin-1").strip()


class ContainerCredentials:
    """The keys that a container is given at AWS_CONTAINER_CREDENTIALS_FULL_URI, for obstore to ask for.

    obstore can ask there too, but panics at a token that ends with a line break, and knows no token in a variable.

    Args:
        url: the registry, for errors.
        environment: the variables.
        certificates: one more file of CAs to trust, or "".
    """

    def __init__(self, url: str, environment: Mapping[str, str], certificates: str) -> None:
        self._certificates = certificates
        self._url = url
        self._address = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        self._file = environment.get(_TOKEN_FILE, "")
        self._token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")

    def __call__(self) -> dict[str, Any]:
        """The keys now.

        Raises:
            RegistryError: they are refused, or the token cannot be read.
            OSError: nobody answers, or it is in trouble.
        """
        import json
        from datetime import datetime
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request

        from modeldrop.util.http import opener

        token = _read_token(self._file, self._url) if self._file else self._token
        request = Request(self._address, headers={"Authorization": token} if token else {})  # noqa: S310  it is checked
        try:
            with opener(self._address, self._certificates).open(request, timeout=PATIENT_SECONDS) as answer:
                given = json.loads(answer.read(1 << 16))
            return {
                "access_key_id": given["AccessKeyId"],
                "secret_access_key": given["SecretAccessKey"],
                "token": given.get("Token"),
                "expires_at": datetime.fromisoformat(given["Expiration"]) if given.get("Expiration") else None,
            }
        except HTTPError as error:
            with error:
                said = error.read(1 << 12).decode("utf-8", "replace")
            if error.code == 429 or error.code >= 500:
                raise OSError(f"it answered {error.code} {said}") from None
            raise _refused(self._url, self._address, f"answered {error.code} {said}") from None
        except HTTPException as error:
            raise OSError(f"its answer broke off: {error}") from None
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise _refused(self._url, self._address, "answers with something else than keys") from None


def has_plain_token(environment: Mapping[str, str], url: str) -> bool:
    """Whether the container's token is in a file that obstore can read as it is.

    Raises:
        RegistryError: the file cannot be read, or holds no token.
    """
    path = environment.get(_TOKEN_FILE, "")
    return bool(path) and _read_token(path, url, strip=False).isprintable()


def _read_token(path: str, url: str, *, strip: bool = True) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
            text = file.read(1 << 16)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "it is not text"
        hint = "Fix its path, or who may read it."
        raise RegistryError(f"{url}: {_TOKEN_FILE} names {path}, which cannot be read: {reason}.", hint) from None
    token = text.strip()
    if not token or not token.isprintable():
        hint = "Write the token again."
        raise RegistryError(f"{url}: {_TOKEN_FILE} names {path}, which holds no token in one line.", hint)
    return token if strip else text


def _refused(url: str, address: str, what: str) -> RegistryError:
    from modeldrop.storage.errors import credentials_rejected, detail

    return credentials_rejected(url, detail(f"{urlsplit(address).netloc} {what}"))
