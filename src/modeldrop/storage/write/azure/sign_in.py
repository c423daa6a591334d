"""The storage account of a registry on Azure, and the credentials for it.

In this order: ``AZURE_STORAGE_CONNECTION_STRING``; ``AZURE_STORAGE_KEY`` or ``AZURE_STORAGE_SAS_TOKEN`` (the
Azure CLI's names); whatever azure-identity finds: a workload or managed identity, ``az login``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modeldrop.config import anonymous_by
from modeldrop.errors import MissingExtraError
from modeldrop.storage.errors import unusable_certificates, wrong_account
from modeldrop.storage.requests_adapter import new_session
from modeldrop.storage.urls import CONNECTION_VARIABLE, check_key, parse_connection
from modeldrop.util.http import CertificatesError

if TYPE_CHECKING:
    from azure.core.pipeline.transport import RequestsTransport

    from modeldrop.config import RegistrySettings
    from modeldrop.storage.urls import Bucket

# Two tries at each place where an identity may be; more than that, and nobody's is found too late.
_CONNECT_SECONDS = 2
_READ_SECONDS = 4


@dataclass(frozen=True, slots=True)
class SignIn:
    """A storage account's address and the credentials for it.

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
        return SignIn(endpoint, None, f"anonymously ({anonymous_by(settings)})")
    connection = os.environ.get(CONNECTION_VARIABLE, "")
    if connection:
        return _connection(bucket, settings, connection)
    key, token = os.environ.get("AZURE_STORAGE_KEY", ""), os.environ.get("AZURE_STORAGE_SAS_TOKEN", "")
    if key or token:
        account = os.environ.get("AZURE_STORAGE_ACCOUNT", "")
        if account and account != bucket.account:
            raise wrong_account(url, account, bucket.account)
        if key:
            how = "the account key in AZURE_STORAGE_KEY"
            check_key(key, url, "AZURE_STORAGE_KEY")
            return SignIn(endpoint, _key(bucket.account, key), how)
        how = "the shared access signature in AZURE_STORAGE_SAS_TOKEN"
        return SignIn(endpoint, _signature(token), how)
    return SignIn(endpoint, _identity(), "azure-identity", identity=True)


def transport(connect_seconds: float, read_seconds: float) -> RequestsTransport:
    """How Azure's clients send requests: with the CAs and proxies of ``modeldrop.util.http``.

    Raises:
        RegistryError: a variable names no usable certificates.
    """
    from azure.core.pipeline.transport import RequestsTransport

    try:
        session = new_session()
    except CertificatesError as error:
        raise unusable_certificates(error) from None
    # Not owned: a transport that was closed would go on with a session of its own making.
    return RequestsTransport(
        session=session, session_owner=False, connection_timeout=connect_seconds, read_timeout=read_seconds
    )


def _connection(bucket: Bucket, settings: RegistrySettings, text: str) -> SignIn:
    found = parse_connection(text, bucket.url, bucket.account)
    credential = _key(bucket.account, found.key) if found.key else _signature(found.signature)
    return SignIn(settings.endpoint or found.endpoint, credential, f"the connection string in {CONNECTION_VARIABLE}")


def _key(account: str, key: str) -> dict[str, str]:
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
    return DefaultAzureCredential(transport=transport(_CONNECT_SECONDS, _READ_SECONDS), retry_total=1)
