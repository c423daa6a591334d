"""URLs of buckets, such as ``s3://bucket/prefix`` and ``az://account/container/prefix``; Azure's connection strings."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from modeldrop.errors import RegistryError, UsageError
from modeldrop.storage.environment import check_address
from modeldrop.storage.errors import wrong_account
from modeldrop.util.named_tuples import NamedTuple

_S3_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.))*[a-z0-9]")
_S3_ENDS = {
    "--ol-s3": "an Object Lambda access point", "--op-s3": "a bucket on Outposts", "--table-s3": "a table bucket",
    "--xa-s3": "an access point of a directory bucket", ".mrap": "a multi-region access point",
}  # fmt: skip
_ARN = "arn:"
_EXPRESS = "--x-s3"
_GCS_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9]")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-))*[a-z0-9]|\$(?:root|web)")
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f\\?#%*<>|\"]+")
_MAX_PREFIX = 200

EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}
"""The extra of the package that has the SDK, by scheme."""
CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
_EMULATOR_ACCOUNT = "devstoreaccount1"
# The one key of every emulator, published by Microsoft: no secret.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Bucket(NamedTuple):
    """A bucket and the prefix of a registry in it.

    Attributes:
        scheme: ``s3``, ``gs`` or ``az``.
        account: the storage account (Azure), else "".
        name: the bucket, the ARN of an S3 access point, or Azure's container.
        prefix: what every key begins with: "" or ``some/folder/``.
    """

    scheme: str
    account: str
    name: str
    prefix: str

    @property
    def url(self) -> str:
        """The URL that parses to this bucket again."""
        head = f"{self.account}/{self.name}" if self.account else self.name
        return f"{self.scheme}://{head}/{self.prefix}".rstrip("/")


class AccessPoint(NamedTuple):
    """An access point of S3, as its ARN names it."""

    partition: str
    region: str
    account: str
    name: str


def access_point(name: str) -> AccessPoint | None:
    """The access point that a bucket's name is the ARN of, or None."""
    if not name.startswith(_ARN):
        return None
    _, partition, _, region, account, resource = name.split(":", 5)
    return AccessPoint(partition, region, account, resource.partition("/")[2])


def express_zone(name: str) -> str:
    """The zone of a directory bucket (S3 Express One Zone), "" for any other name."""
    return name.removesuffix(_EXPRESS).rpartition("--")[2] if name.endswith(_EXPRESS) else ""


def parse_bucket(url: str) -> Bucket:
    """Parse a bucket URL.

    Raises:
        UsageError: no bucket can have that name, or no prefix that form.
    """
    scheme, _, rest = url.partition("://")
    account = ""
    if scheme == "az":
        account, _, rest = rest.partition("/")
        if not _ACCOUNT.fullmatch(account):
            raise UsageError(
                f"{account[:80]!r} cannot be a storage account: those are 3 to 24 lower-case letters and digits.",
                "Write az://ACCOUNT/CONTAINER, or az://ACCOUNT/CONTAINER/PREFIX.",
            )
        if not rest.strip("/"):
            raise UsageError(f"{url[:80]!r} names no container.", f"Write az://{account}/CONTAINER.")
    name, _, prefix = rest.strip("/").partition("/")
    if scheme == "s3" and name.startswith(_ARN):
        point, _, prefix = prefix.partition("/")
        name = f"{name}/{point}"
        _check_arn(name)
    else:
        _check_name(scheme, name)
    segments = prefix.split("/") if prefix else []
    for segment in segments:
        if segment in {".", ".."} or not _SEGMENT.fullmatch(segment):
            raise UsageError(
                f"{segment[:80]!r} in {url[:120]!r} cannot be part of a prefix.",
                "Use letters, digits, '.', '_', '-' between single slashes.",
            )
    if len(prefix.encode()) > _MAX_PREFIX:
        raise UsageError(f"The prefix of {url[:80]}… has more than {_MAX_PREFIX} bytes.", "Use a shorter one.")
    return Bucket(scheme, account, name, f"{prefix}/" if prefix else "")


class AzureConnection(NamedTuple):
    """The contents of a connection string: ``AccountName=…;AccountKey=…;EndpointSuffix=…``.

    Attributes:
        endpoint: the address of the account's blob service.
        key: the account key, or "".
        signature: the shared access signature without its ``?``, or "". One of the two is there.
    """

    endpoint: str
    key: str
    signature: str

    def __repr__(self) -> str:
        return f"AzureConnection({self.endpoint!r})"  # the rest is secret


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
        raise _malformed_connection(url, "it is not a list of NAME=VALUE with semicolons between")
    values = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if values.get("usedevelopmentstorage", "").lower() == "true":
        values = {
            "accountname": _EMULATOR_ACCOUNT,
            "accountkey": _EMULATOR_KEY,
            "blobendpoint": f"http://127.0.0.1:10000/{_EMULATOR_ACCOUNT}",
        }
    endpoint = check_address(_connection_endpoint(values), f"the endpoint in {CONNECTION_VARIABLE}", url)
    found = values.get("accountname") or account_of(endpoint)
    if not found:
        raise _malformed_connection(url, "it has neither AccountName nor BlobEndpoint")
    if found != account:
        raise wrong_account(url, found, account)
    key, signature = values.get("accountkey", ""), values.get("sharedaccesssignature", "").lstrip("?")
    if not key and not signature:
        raise _malformed_connection(url, "it has neither AccountKey nor SharedAccessSignature")
    if key:
        check_key(key, url, f"AccountKey in {CONNECTION_VARIABLE}")
    return AzureConnection(endpoint, key, signature)


def check_key(key: str, url: str, what: str) -> None:
    """Refuse what cannot be an account key.

    Raises:
        RegistryError: it is not base64.
    """
    import binascii  # few registries have a key to check

    try:
        binascii.a2b_base64(key, strict_mode=True)
    except ValueError:
        raise RegistryError(
            f"{url}: {what} cannot be an account key: it is not base64.", "Copy it again, whole and without quotes."
        ) from None


def account_of(endpoint: str) -> str:
    """The account in an address: its path where the host is an emulator's, else its host's first label."""
    parts = urlsplit(endpoint)
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]


def _check_name(scheme: str, name: str) -> None:
    if scheme == "s3":
        valid = 3 <= len(name) <= 63 and _S3_NAME.fullmatch(name)
        rule = "3 to 63 lower-case letters, digits, single dots and hyphens, and no IP address"
        kind = next((kind for end, kind in _S3_ENDS.items() if name.endswith(end)), "")
        if valid and kind:
            raise UsageError(f"{name!r} is {kind}, which cannot be a registry.", "Name the bucket itself.")
    elif scheme == "gs":
        valid = 3 <= len(name) <= 222 and _GCS_NAME.fullmatch(name)
        rule = "3 to 63 lower-case letters, digits, '.', '_' and '-' (more where there are dots)"
    else:
        valid = 3 <= len(name) <= 63 and _CONTAINER.fullmatch(name)
        rule = "3 to 63 lower-case letters, digits and single hyphens"
    if not valid:
        what = "container" if scheme == "az" else "bucket"
        raise UsageError(f"{name[:80]!r} cannot be a {what}: those have {rule}.", "Check the URL for a typing error.")


def _check_arn(name: str) -> None:
    arn = r"arn:aws[a-z-]*:s3:[a-z]+(?:-[a-z0-9]+)+:\d{12}:accesspoint/[a-z0-9][a-z0-9-]{1,48}[a-z0-9]"
    if not re.fullmatch(arn, name):
        raise UsageError(
            f"{name[:120]!r} is no ARN that can be a registry: those of access points in one region can.",
            "Write s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME, with a prefix after it if there is one.",
        )


def _connection_endpoint(values: dict[str, str]) -> str:
    if values.get("blobendpoint"):
        # A signature may follow it; it is named by SharedAccessSignature too.
        return values["blobendpoint"].partition("?")[0].rstrip("/")
    if not values.get("accountname"):
        return ""
    protocol = values.get("defaultendpointsprotocol", "https")
    return f"{protocol}://{values['accountname']}.blob.{values.get('endpointsuffix', 'core.windows.net')}"


def _malformed_connection(url: str, how: str) -> RegistryError:
    return RegistryError(
        f"{url}: {CONNECTION_VARIABLE} is malformed: {how}.", "Copy it again, whole and without quotes."
    )
