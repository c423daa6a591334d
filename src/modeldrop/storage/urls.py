"""Bucket URLs: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://account/container/prefix``."""

from __future__ import annotations

import re

from modeldrop.errors import UsageError
from modeldrop.util.values import dataclass

_S3_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9]|[.-](?![.-]))*[a-z0-9]")
_GCS_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9]")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-))*[a-z0-9]|\$(?:root|web)")
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f\\?#%*<>|\"]+")
_MAX_PREFIX = 200


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in an object store.

    Attributes:
        scheme: ``s3``, ``gs`` or ``az``.
        account: the storage account (Azure), else "".
        name: the bucket, or Azure's container.
        prefix: what every key begins with: "" or ``some/folder/``.
    """

    scheme: str
    account: str
    name: str
    prefix: str

    @property
    def url(self) -> str:
        """The text that parses to this place again."""
        head = f"{self.account}/{self.name}" if self.account else self.name
        return f"{self.scheme}://{head}/{self.prefix}".rstrip("/")


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


def _check_name(scheme: str, name: str) -> None:
    if scheme == "s3":
        valid = 3 <= len(name) <= 63 and _S3_NAME.fullmatch(name)
        rule = "3 to 63 lower-case letters, digits, single dots and hyphens, and no IP address"
    elif scheme == "gs":
        valid = 3 <= len(name) <= 222 and _GCS_NAME.fullmatch(name)
        rule = "3 to 63 lower-case letters, digits, '.', '_' and '-' (more where there are dots)"
    else:
        valid = 3 <= len(name) <= 63 and _CONTAINER.fullmatch(name)
        rule = "3 to 63 lower-case letters, digits and single hyphens"
    if not valid:
        what = "container" if scheme == "az" else "bucket"
        raise UsageError(f"{name[:80]!r} cannot be a {what}: those have {rule}.", "Check the URL for a typing error.")
