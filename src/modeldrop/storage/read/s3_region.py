"""Finding the region of an S3 bucket, where requests were signed for another one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request

from modeldrop.storage.errors import wrong_region
from modeldrop.storage.read.obstore_client import open_client
from modeldrop.storage.read.obstore_errors import parse
from modeldrop.storage.urls import parse_bucket
from modeldrop.util import http

if TYPE_CHECKING:
    from modeldrop.storage.read.obstore_client import ObstoreClient
    from modeldrop.storage.s3_address import S3Address

_TOLD = re.compile(r"<Region>\s*([a-z0-9-]+)|expecting '([a-z0-9-]+)'")
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){1,5}")
_CODES = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
_SECONDS = 3


def reopen_in_region(client: ObstoreClient, error: BaseException) -> ObstoreClient | None:
    """The registry opened again in the region of its bucket, if the error is about that; else None.

    Raises:
        RegistryError: the bucket is in another region, and the service does not say in which.
    """
    answer = parse(error)
    # obstore drops the headers, and the whole answer if it redirects without a Location, as S3 does.
    address = client.address
    if address is None or (answer.code not in _CODES and "redirect without LOCATION" not in answer.text):
        return None
    told = _TOLD.search(answer.body)
    region = (told[1] or told[2]) if told else _ask(client.settings.url, address)
    if not region or region == address.region:
        raise wrong_region(client.settings.url, address.region, "") from error
    return open_client(client.settings, region)


def _ask(url: str, there: S3Address) -> str:
    """The region of a bucket; S3 names it to anybody, in the answer to a HEAD that it may refuse or redirect."""
    address = there.endpoint if there.by_host else f"{there.endpoint}/{parse_bucket(url).name}"
    try:
        with http.opener(address, there.certificates).open(Request(address, method="HEAD"), timeout=_SECONDS) as answer:  # noqa: S310  http or https
            region = answer.headers.get("x-amz-bucket-region", "")
    except HTTPError as error:
        with error:
            region = error.headers.get("x-amz-bucket-region", "")
    except (OSError, ValueError):
        return ""
    return region if _REGION.fullmatch(region) else ""
