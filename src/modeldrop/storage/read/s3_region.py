"""An S3 bucket that is in another region than the client signs for: where it is, and going there once."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from modeldrop.storage.errors import wrong_region
from modeldrop.storage.read.client import certificates
from modeldrop.storage.read.obstore_client import open_access
from modeldrop.storage.read.obstore_errors import parse
from modeldrop.storage.urls import parse_bucket

if TYPE_CHECKING:
    from typing import Any

    from modeldrop.storage.read.obstore_client import Access

_TOLD = re.compile(r"<Region>\s*([a-z0-9-]+)|expecting '([a-z0-9-]+)'")
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){1,5}")
_CODES = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
_SECONDS = 3


class _Stay(HTTPRedirectHandler):
    """The answer that redirects is the one that names the region."""

    def redirect_request(self, *_: Any) -> None:
        return None


def moved(access: Access, error: BaseException) -> Access | None:
    """The registry in the region where its bucket is, if that is what the error is about; else None.

    Raises:
        RegistryError: the bucket is in another region, and it is not to be learnt in which.
    """
    answer = parse(error)
    # obstore drops the headers, and the whole answer if it redirects without a Location, as S3 does.
    if answer.code not in _CODES and "redirect without LOCATION" not in answer.text:
        return None
    told = _TOLD.search(answer.body)
    region = (told[1] or told[2]) if told else _ask(access)
    if not region or region == access.region:
        raise wrong_region(access.settings.url, access.region, "") from error
    return open_access(access.settings, region)


def _ask(access: Access) -> str:
    """S3 names the region of any bucket to anybody, in the answer to a HEAD that it may refuse."""
    bucket = parse_bucket(access.settings.url).name
    parts = urlsplit(access.endpoint)
    by_host = (parts.hostname or "").startswith(f"{bucket}.")
    address = access.endpoint if by_host else f"{access.endpoint}/{bucket}"
    context = ssl.create_default_context()
    private = certificates("s3") if parts.scheme == "https" else ""
    if private:
        context.load_verify_locations(cadata=private)
    opener = build_opener(_Stay, HTTPSHandler(context=context))
    try:
        with opener.open(Request(address, method="HEAD"), timeout=_SECONDS) as answer:  # noqa: S310  http or https
            region = answer.headers.get("x-amz-bucket-region", "")
    except HTTPError as error:
        with error:
            region = error.headers.get("x-amz-bucket-region", "")
    except (OSError, ValueError):
        return ""
    return region if _REGION.fullmatch(region) else ""
