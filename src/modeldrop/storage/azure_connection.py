"""Azure's connection strings: ``AccountName=…;AccountKey=…;EndpointSuffix=…``."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from modeldrop.errors import RegistryError
from modeldrop.storage.errors import wrong_account
from modeldrop.util.values import dataclass, field

VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
_EMULATOR_ACCOUNT = "devstoreaccount1"
# The one key of every emulator, published by Microsoft: no secret.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True, slots=True)
class AzureConnection:
    """What a connection string says.

    Attributes:
        endpoint: the address of the account's blob service.
        key: the account key, or "".
        signature: the shared access signature without its ``?``, or "". One of the two is there.
    """

    endpoint: str
    key: str = field(repr=False)
    signature: str = field(repr=False)


def parse_connection(text: str, url: str, account: str) -> AzureConnection:
    """Read a connection string.

    Args:
        text: the string. Nothing of it is ever quoted: it holds a key.
        url: the registry, for the errors.
        account: the storage account that it must be for.

    Raises:
        RegistryError: it is malformed, or for another account.
    """
    pairs = [part.partition("=") for part in text.strip().strip(";").split(";")]
    if any(not name or not separator for name, separator, _ in pairs):
        raise _malformed(url, "it is not a list of NAME=VALUE with semicolons between")
    values = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if values.get("usedevelopmentstorage", "").lower() == "true":
        values = {
            "accountname": _EMULATOR_ACCOUNT,
            "accountkey": _EMULATOR_KEY,
            "blobendpoint": f"http://127.0.0.1:10000/{_EMULATOR_ACCOUNT}",
        }
    endpoint = _endpoint(values)
    found = values.get("accountname") or account_of(endpoint)
    if not found:
        raise _malformed(url, "it has neither AccountName nor BlobEndpoint")
    if found != account:
        raise wrong_account(url, found, account)
    key, signature = values.get("accountkey", ""), values.get("sharedaccesssignature", "").lstrip("?")
    if not key and not signature:
        raise _malformed(url, "it has neither AccountKey nor SharedAccessSignature")
    if key:
        check_key(key, url, f"AccountKey in {VARIABLE}")
    return AzureConnection(endpoint, key, signature)


def check_key(key: str, url: str, what: str) -> None:
    """Refuse what cannot be an account key.

    Raises:
        RegistryError: it is not base64.
    """
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise RegistryError(
            f"{url}: {what} cannot be an account key: it is not base64.", "Copy it again, whole and without quotes."
        ) from None


def account_of(endpoint: str) -> str:
    """The account in an address: its path where the host is an emulator's, else its host's first label."""
    parts = urlsplit(endpoint)
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]


def _endpoint(values: dict[str, str]) -> str:
    if values.get("blobendpoint"):
        # A signature may follow it; it is named by SharedAccessSignature too.
        return values["blobendpoint"].partition("?")[0].rstrip("/")
    if not values.get("accountname"):
        return ""
    protocol = values.get("defaultendpointsprotocol", "https")
    return f"{protocol}://{values['accountname']}.blob.{values.get('endpointsuffix', 'core.windows.net')}"


def _malformed(url: str, how: str) -> RegistryError:
    return RegistryError(f"{url}: {VARIABLE} is malformed: {how}.", "Copy it again, whole and without quotes.")
