"""The clouds' own variables, made clean: one place for obstore, for the SDKs and for what reads them here.

Each library reads them by itself, and none expects what reaches containers: a line break at the end (a secret that was
made with ``echo``), quotes (``docker --env-file`` keeps them), an address without ``https://``, an empty value. obstore
panics at some of these, and takes an empty key for a key. So they are put right in the environment itself, before any
library looks: white space around them goes, and so do variables that are empty then; what else cannot be right is
refused by its name. Values are never quoted: most are secrets.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modeldrop.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from urllib.parse import SplitResult

_WORD, _TEXT, _ADDRESS, _URI, _HOST = "word", "text", "address", "uri", "host"
"""One word; anything printable; http:// or https:// and a host; the same with a query; a host, maybe with its port."""

_VARIABLES = {
    "s3": {
        _WORD: (
            "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_REGION",
            "AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_SKIP_SIGNATURE",
            "AWS_EC2_METADATA_DISABLED", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_IMDSV1_FALLBACK",
            "AWS_REQUEST_PAYER", "AWS_S3_EXPRESS", "AWS_STS_REGIONAL_ENDPOINTS", "AWS_USE_DUALSTACK_ENDPOINT",
            "AWS_USE_FIPS_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        ),
        _TEXT: (
            "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
        _ADDRESS: (
            "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "AWS_METADATA_ENDPOINT",
        ),
        _URI: ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
    },
    "gs": {
        _WORD: ("GOOGLE_BEARER_TOKEN", "GOOGLE_SKIP_SIGNATURE", "NO_GCE_CHECK"),
        _TEXT: (
            "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH",
            "CLOUDSDK_CONFIG",
        ),
        _HOST: ("STORAGE_EMULATOR_HOST", "GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"),
    },
    "az": {
        _WORD: (
            "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_TOKEN", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_SKIP_SIGNATURE",
            "AZURE_USE_AZURE_CLI", "IDENTITY_HEADER", "MSI_SECRET",
        ),
        _TEXT: (
            "AZURE_STORAGE_CONNECTION_STRING", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PATH",
            "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_CONFIG_DIR",
        ),
        _ADDRESS: (
            "AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT",
        ),
        _URI: ("IDENTITY_ENDPOINT", "MSI_ENDPOINT"),
    },
}  # fmt: skip
_KINDS = {
    scheme: {name: kind for kind, names in kinds.items() for name in names} for scheme, kinds in _VARIABLES.items()
}
# May hold several lines, such as a JSON document: trimmed, no more.
_KINDS["gs"]["GOOGLE_SERVICE_ACCOUNT_KEY"] = ""
_SCHEME_IS_OPTIONAL = {"AZURE_AUTHORITY_HOST": "https://"}


def clean_environment(scheme: str, url: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Put right the variables of one cloud, in place; those that are right are not touched.

    Args:
        scheme: ``s3``, ``gs`` or ``az``; others have no variables.
        url: the registry, for errors.
        environment: what to put right.

    Raises:
        RegistryError: a value cannot be right.
    """
    for name, kind in _KINDS.get(scheme, {}).items():
        value = environment.get(name)
        if value is None:
            continue
        clean = value.strip()
        if kind and clean:
            clean = _checked(clean, kind, name, url)
        if not clean:
            del environment[name]  # to obstore an empty key is a key
        elif clean != value:
            environment[name] = clean


def check_address(address: str, name: str, url: str) -> str:
    """An address of a service, as it can be used: without white space around it.

    Args:
        address: what was written; "" where nothing was.
        name: where, such as ``AWS_ENDPOINT_URL``.
        url: the registry, for errors.

    Raises:
        RegistryError: it is no http:// or https:// address of a host.
    """
    return _checked(address.strip(), _ADDRESS, name, url) if address.strip() else ""


def _checked(value: str, kind: str, name: str, url: str) -> str:
    """The value, if it can be right."""
    if not value.isprintable():
        raise _unusable(url, name, "has a line break or another control character in it", "Set it again in one line.")
    if kind == _TEXT:
        return value
    if value[0] == value[-1] and value[0] in "'\"":
        raise _unusable(url, name, "has quotes around it, which belong to its value", "Set it without the quotes.")
    if " " in value:
        raise _unusable(url, name, "has a blank in it", "Set it again: it is one word.")
    if kind == _WORD:
        return value
    if name in _SCHEME_IS_OPTIONAL and "://" not in value:
        value = _SCHEME_IS_OPTIONAL[name] + value
    parts = _parts(value if kind != _HOST or "://" in value else f"http://{value}")
    if parts is None:
        if kind == _HOST:
            raise _unusable(url, name, "is no host, with a port or without", f"Write such as {name}=HOST:PORT.")
        hint = f"Write such as {name}=https://{value if _is_host(value) else 'HOST'}."
        raise _unusable(url, name, "is no http:// or https:// address", hint)
    if "@" in parts.netloc or parts.fragment or (parts.query and kind != _URI):
        hint = "An address is a host, maybe with port and path."
        raise _unusable(url, name, "must hold no user name, password, '?' or '#'", hint)
    return value


def _parts(address: str) -> SplitResult | None:
    """The parts of an address of a host; None if it is none."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        if not host.isascii():
            host.encode("idna")
        return parts if parts.scheme in {"http", "https"} and host and parts.port != 0 else None
    except ValueError:  # a port that is no number, half an IPv6 address, no international name
        return None


def _is_host(value: str) -> bool:
    """Whether a value is certainly a host, maybe with port and path, and so may be repeated."""
    return bool(re.fullmatch(r"(?:[\w-]+\.)+[\w-]+(?::\d+)?(?:/[\w./-]*)?|[\w-]+:\d+(?:/[\w./-]*)?", value))


def _unusable(url: str, name: str, fault: str, hint: str) -> RegistryError:
    return RegistryError(f"{url}: {name} {fault}.", hint)
