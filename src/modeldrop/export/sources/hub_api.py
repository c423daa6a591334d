"""Asks the Hub what a revision is and holds, and for small files, with the standard library: no client to install.

Files come through huggingface_hub (``hub_client.py``) where it is, which has its cache and its faster ways to download.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import Request

from modeldrop.export.sources import hub_errors
from modeldrop.export.sources.hub_settings import endpoint, timeout, token
from modeldrop.util import http

Revision: TypeAlias = Mapping[str, Any]
"""What the API says of a repository at a revision."""

_MAX_BYTES = 64 << 20
_MOST_REDIRECTIONS = 5


def ask_revision(repository: str, revision: str) -> Revision:
    """What the Hub says of a repository at a revision: its commit, and its files with their sizes and digests.

    Raises:
        SourceError: it is missing, private or gated, or the Hub does not answer as it should.
    """
    data = _ask(f"/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=True", repository, revision)
    try:
        answer = json.loads(data)
    except ValueError:
        raise hub_errors.not_a_hub() from None
    if not isinstance(answer, dict):
        raise hub_errors.not_a_hub()
    return answer


def read_file(repository: str, commit: str, file: str) -> bytes:
    """A file of at most 64 MiB; nothing of it is verified.

    Raises:
        SourceError: it is missing, private or gated, or the Hub does not answer as it should.
    """
    return _ask(f"/{repository}/resolve/{commit}/{quote(file)}", repository, commit, file)


def _ask(path: str, repository: str, revision: str, file: str = "") -> bytes:
    try:
        return _get(f"{endpoint()}{path}")
    except HTTPError as error:
        with error:
            raise hub_errors.explain_answer(error.code, error.headers, repository, revision, file) from None
    except http.CertificatesError as error:
        raise hub_errors.unusable_hub_certificates(error) from None
    except (OSError, HTTPException) as error:
        # Not chained: the original may spell out an endpoint with a password in it.
        cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
        raise hub_errors.of_the_net(cause, repository) from None


def _get(url: str) -> bytes:
    """The answer's body; redirections are followed, which the Hub gives for repositories that were renamed."""
    first = urlsplit(url)
    for _ in range(_MOST_REDIRECTIONS):
        parts = urlsplit(url)
        headers = {"Accept": "application/json", "User-Agent": "modeldrop"}
        if parts.netloc == first.netloc:  # what signs in is for this server alone
            headers |= _authorization(parts.username, parts.password)
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        try:
            with http.opener(bare).open(Request(bare, headers=headers), timeout=timeout()) as answer:  # noqa: S310  HF_ENDPOINT
                return bytes(answer.read(_MAX_BYTES))
        except HTTPError as error:
            there = error.headers.get("Location")
            if error.code not in http.REDIRECTIONS or not there:
                raise
            error.close()
            url = urljoin(url, there)
            if urlsplit(url).scheme not in {"http", "https"}:
                raise hub_errors.not_a_hub() from None
    raise hub_errors.not_a_hub()


def _authorization(user: str | None, password: str | None) -> dict[str, str]:
    """What an endpoint with a password in it is asked with; else the token, if there is one."""
    if user is not None:
        plain = f"{unquote(user)}:{unquote(password or '')}"
        return {"Authorization": f"Basic {base64.b64encode(plain.encode()).decode()}"}
    return {"Authorization": f"Bearer {found}"} if (found := token()) else {}
