"""Which account a registry on Azure is in, and as whom it is reached.

In this order: ``AZURE_STORAGE_CONNECTION_STRING``; ``AZURE_STORAGE_KEY`` or ``AZURE_STORAGE_SAS_TOKEN`` (the
Azure CLI's names); whatever azure-identity finds: a workload or managed identity, ``az login``.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modeldrop.errors import MissingExtraError, RegistryError
from modeldrop.storage_errors import wrong_account

if TYPE_CHECKING:
    from modeldrop.format.bucket import Bucket
    from modeldrop.format.settings import RegistrySettings

_STRING = "AZURE_STORAGE_CONNECTION_STRING"
_EMULATOR_ACCOUNT = "devstoreaccount1"
# The one key of every emulator, published by Microsoft: no secret.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# Two tries at each place where an identity may be; more than that, and nobody's is found too late.
_CONNECT_SECONDS = 2
_READ_SECONDS = 4


@dataclass(frozen=True, slots=True)
class SignIn:
    """Where an account is, and what proves who we are.

    Attributes:
        endpoint: the address of the account's blob service.
        credential: what azure-storage-blob takes as such; None for nobody.
        how: how we sign in, for people: ``the account key in AZURE_STORAGE_KEY``.
        identity: whether azure-identity looks for one, when the first token is needed.
    """

    endpoint: str
    credential: Any = field(repr=False)
    how: str
    identity: bool = False


def sign_in(bucket: Bucket, settings: RegistrySettings) -> SignIn:
    """Find the account's address and credentials. Nothing is sent.

    Raises:
        RegistryError: the credentials are malformed, or those of another account.
        MissingExtraError: azure-identity is needed and not installed.
    """
    url = bucket.url
    endpoint = settings.endpoint or f"https://{bucket.account}.blob.core.windows.net"
    if settings.anonymous:
        return SignIn(endpoint, None, "anonymously (anonymous = true in modeldrop.toml)")
    connection = os.environ.get(_STRING, "")
    if connection:
        return _connection(bucket, settings, connection)
    key, token = os.environ.get("AZURE_STORAGE_KEY", ""), os.environ.get("AZURE_STORAGE_SAS_TOKEN", "")
    if key or token:
        account = os.environ.get("AZURE_STORAGE_ACCOUNT", "")
        if account and account != bucket.account:
            raise wrong_account(url, account, bucket.account)
        if key:
            how = "the account key in AZURE_STORAGE_KEY"
            return SignIn(endpoint, _key(url, bucket.account, key, "AZURE_STORAGE_KEY"), how)
        how = "the shared access signature in AZURE_STORAGE_SAS_TOKEN"
        return SignIn(endpoint, _signature(token), how)
    return SignIn(endpoint, _identity(), "azure-identity", identity=True)


def ca_bundle() -> str | bool:
    """The PEM file to trust instead of certifi's, True for certifi's or what requests finds itself.

    Raises:
        RegistryError: the file that is named is not there.
    """
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        path = os.environ.get(name, "")
        if path:
            if not os.path.exists(path):  # noqa: PTH110  a text that requests takes as it is
                raise RegistryError(f"{name} names {path}, which is not there.", "Mend or unset it.")
            return path
    return True


def _connection(bucket: Bucket, settings: RegistrySettings, text: str) -> SignIn:
    how = f"the connection string in {_STRING}"
    pairs = [part.partition("=") for part in text.strip().strip(";").split(";")]
    if any(not name or not separator for name, separator, _ in pairs):
        raise _malformed(bucket.url, "it is not a list of NAME=VALUE with semicolons between")
    values = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if values.get("usedevelopmentstorage", "").lower() == "true":
        values = {
            "accountname": _EMULATOR_ACCOUNT,
            "accountkey": _EMULATOR_KEY,
            "blobendpoint": f"http://127.0.0.1:10000/{_EMULATOR_ACCOUNT}",
        }
    endpoint = _endpoint(values)
    account = values.get("accountname") or (_account_of(endpoint) if endpoint else "")
    if not account:
        raise _malformed(bucket.url, "it has neither AccountName nor BlobEndpoint")
    if account != bucket.account:
        raise wrong_account(bucket.url, account, bucket.account)
    if "accountkey" in values:
        credential = _key(bucket.url, account, values["accountkey"], f"AccountKey in {_STRING}")
    elif values.get("sharedaccesssignature"):
        credential = _signature(values["sharedaccesssignature"])
    else:
        raise _malformed(bucket.url, "it has neither AccountKey nor SharedAccessSignature")
    return SignIn(settings.endpoint or endpoint, credential, how)


def _endpoint(values: dict[str, str]) -> str:
    if values.get("blobendpoint"):
        # A signature may follow it; it is named by SharedAccessSignature too.
        return values["blobendpoint"].partition("?")[0].rstrip("/")
    if not values.get("accountname"):
        return ""
    protocol = values.get("defaultendpointsprotocol", "https")
    return f"{protocol}://{values['accountname']}.blob.{values.get('endpointsuffix', 'core.windows.net')}"


def _account_of(endpoint: str) -> str:
    """The account of an address: its host's first label, or its path's where the host is an emulator's."""
    parts = urlsplit(endpoint)
    path = parts.path.strip("/")
    return path or (parts.hostname or "").partition(".")[0]


def _key(url: str, account: str, key: str, what: str) -> dict[str, str]:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise RegistryError(
            f"{url}: {what} cannot be an account key: it is not base64.", "Copy it again, whole and without quotes."
        ) from None
    return {"account_name": account, "account_key": key}


def _signature(token: str) -> Any:
    from azure.core.credentials import AzureSasCredential

    return AzureSasCredential(token.strip().lstrip("?"))


def _identity() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise MissingExtraError(
            "Signing in to Azure needs azure-identity.", "Install it: pip install 'modeldrop[azure]'"
        ) from None
    return DefaultAzureCredential(
        connection_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retry_total=1,
        connection_verify=ca_bundle(),
    )


def _malformed(url: str, how: str) -> RegistryError:
    return RegistryError(f"{url}: {_STRING} is malformed: {how}.", "Copy it again, whole and without quotes.")
