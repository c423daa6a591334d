"""A client of GitHub's REST API, of github.com or of a server of one's own: the few calls that are made here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request

from modeldrop.util.http import REDIRECTIONS, opener

_SECONDS = 30.0
_MAX_BYTES = 64 << 20
_PAGE = 100
_MAX_PAGES = 100


class GitHubError(Exception):
    """GitHub's API refused a call, or did not answer. No run fails for that: it is a warning.

    Attributes:
        message: what failed.
        status: of HTTP; 0 where there is none.
        hint: what the reader can do.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.hint = ""


@dataclass(frozen=True, slots=True)
class GitHubApi:
    """The API, for one repository.

    Attributes:
        url: where it is, such as ``https://api.github.com``.
        repository: ``owner/name``.
        token: signs in; "" asks as anybody.
        version: of the API; servers of one's own do not know the newest.
    """

    url: str
    repository: str
    token: str = field(repr=False, default="")
    version: str = "2022-11-28"

    def get(self, path: str, **query: Any) -> Any:
        """What is at a path below the repository's.

        Raises:
            GitHubError: see there.
        """
        return json.loads(self._send("GET", self._at(path, query)))

    def pages(self, path: str, key: str = "", **query: Any) -> Iterator[Any]:
        """All that a list at a path has, page by page; ``key`` names the list where it is in an object.

        Raises:
            GitHubError: see there.
        """
        for page in range(1, _MAX_PAGES + 1):
            answer = self.get(path, per_page=_PAGE, page=page, **query)
            items = answer[key] if key else answer
            yield from items
            if len(items) < _PAGE:
                return

    def send(self, method: str, path: str, document: Mapping[str, Any]) -> Any:
        """POST or PATCH a document; what is answered.

        Raises:
            GitHubError: see there.
        """
        return json.loads(self._send(method, self._at(path, {}), json.dumps(document).encode()))

    def delete(self, path: str) -> None:
        """Delete what is at a path.

        Raises:
            GitHubError: see there.
        """
        self._send("DELETE", self._at(path, {}))

    def redirection(self, path: str) -> str:
        """Where a path leads: an address that needs no token, and must not get one.

        Raises:
            GitHubError: it leads nowhere.
        """
        try:
            self._open("GET", self._at(path, {})).close()
        except HTTPError as error:
            if error.code in REDIRECTIONS and (there := error.headers.get("Location")):
                return str(there)
            raise self._refused("GET", path, error) from None
        raise GitHubError(f"GitHub redirects {path} nowhere.")

    def _at(self, path: str, query: Mapping[str, Any]) -> str:
        return f"{self.url}/repos/{self.repository}{path}" + (f"?{urlencode(query)}" if query else "")

    def _send(self, method: str, url: str, body: bytes | None = None) -> bytes:
        try:
            with self._open(method, url, body) as answer:
                return bytes(answer.read(_MAX_BYTES))
        except HTTPError as error:
            raise self._refused(method, url, error) from None
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", error)  # urllib's own text shows its brackets
            raise GitHubError(f"GitHub's API at {self.url} does not answer: {why}.") from None

    def _open(self, method: str, url: str, body: bytes | None = None) -> Any:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": self.version}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return opener(url).open(Request(url, body, headers, method=method), timeout=_SECONDS)  # noqa: S310  the runner names it

    def _refused(self, method: str, url: str, error: HTTPError) -> GitHubError:
        with error:
            try:
                said = str(json.loads(error.read(_MAX_BYTES))["message"])[:300]
            except (OSError, HTTPException, ValueError, KeyError, TypeError):
                said = str(error.reason)
        path = url.removeprefix(self.url).partition("?")[0]
        return GitHubError(f"GitHub answers {method} {path} with {error.code}: {said}", error.code)
