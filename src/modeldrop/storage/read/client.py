"""How obstore talks to a service: time limits, private CAs, and proxies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modeldrop.errors import RegistryError

if TYPE_CHECKING:
    from modeldrop.storage.read.credentials import SignIn

_CONNECT = "3s"
_STALL = "8s"
_DRIP = "15s"  # of one request: what comes too slowly to be called a stall is cut as well, and asked for again
NO_RETRIES: Any = {"max_retries": 0}
"""Whoever asks asks again himself: so that it is counted, and slowed down where the service says it is busy."""

_NEAR = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "metadata.google.internal")


def client_options(endpoint: str, scheme: str, sign_in: SignIn) -> Any:
    """What obstore's ``client_options`` are to be.

    Raises:
        RegistryError: a file of CA certificates cannot be read.
    """
    options: Any = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": _CONNECT,
        "read_timeout": _STALL,
        "timeout": _DRIP,
    }
    if scheme != "s3":
        # obstore would sign it, and what stands before some S3-compatible services rewrites it. S3 never compresses.
        options["default_headers"] = {"Accept-Encoding": "identity"}
    if sign_in.local:
        options |= _proxy(endpoint, sign_in)
    private = certificates(scheme) if endpoint.startswith("https://") else ""
    if private:
        options["root_certificate"] = private
    return options


def _proxy(endpoint: str, sign_in: SignIn) -> dict[str, str]:
    """The proxy for the service, but never for metadata, which obstore would ask through HTTP_PROXY too."""
    if not any(name.lower() in {"http_proxy", "all_proxy"} and value for name, value in os.environ.items()):
        return {}
    from urllib.request import getproxies_environment

    proxies = getproxies_environment()
    proxy = proxies.get(urlsplit(endpoint).scheme) or proxies.get("all")
    if not proxy:
        # Naming one is what turns off those of the environment.
        return {"proxy_url": proxies["http"], "proxy_excludes": "*,0.0.0.0/0,::/0"} if "http" in proxies else {}
    near = {
        *_NEAR,
        *(urlsplit(sign_in.config.get(name, "")).hostname for name in ("metadata_endpoint", "msi_endpoint")),
    }
    near.add(os.environ.get("GCE_METADATA_HOST", "").partition(":")[0])
    return {"proxy_url": proxy, "proxy_excludes": ",".join([proxies.get("no", ""), *sorted(filter(None, near))])}


def certificates(scheme: str) -> str:
    """The private CAs to trust besides the system's, as PEM. obstore reads SSL_CERT_FILE itself, if it can."""
    texts = {}
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", *(("AWS_CA_BUNDLE",) if scheme == "s3" else ())):
        file = os.environ.get(name)
        if not file or file in texts or (name == "REQUESTS_CA_BUNDLE" and Path(file).is_dir()):
            continue
        try:
            text = Path(file).read_text("utf-8", "replace")
        except OSError as error:
            raise RegistryError(
                f"{name} names {file}, which cannot be read: {error.strerror}.", "Mend its path, or unset it."
            ) from None
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise RegistryError(f"{name} names {file}, which holds no PEM certificate.", "Mend its path, or unset it.")
        texts[file] = "" if name == "SSL_CERT_FILE" else text
    return "\n".join(text for text in texts.values() if text)
