"""A client of the OCI distribution API: signs in as the registry asks, tries again, says what failed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from modeldrop.errors import RegistryError
from modeldrop.oci.blobs import Blob, blob_of
from modeldrop.oci.credentials import auth_files, credentials_for
from modeldrop.oci.destination import RegistryDestination
from modeldrop.oci.refusals import explain_refusal, no_registry, unanswered
from modeldrop.oci.transport import Answer, Request, Transport
from modeldrop.storage.answer_text import asks_for_tls, describe, is_page, page_title
from modeldrop.util.http import CertificatesError
from modeldrop.util.retry import Deadline, backoff, parse_retry_after, retry

_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_STALL_SECONDS = 60.0
_GIVE_UP_SECONDS = 3.0
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_CLIENT = "modeldrop"
_NOTHING = blob_of(b"")
_Result = TypeVar("_Result")


class Client:
    """Requests to one repository.

    Args:
        destination: the repository.
        deadline: all of it ends then.
        plain_http: speak HTTP without TLS; a registry on this machine is asked which it speaks.
        also_pull: another repository of the registry that is read too, to mount blobs of it; or "".

    Raises:
        UsageError, RegistryError: the credentials cannot be read.
    """

    def __init__(
        self, destination: RegistryDestination, deadline: Deadline, *, plain_http: bool = False, also_pull: str = ""
    ) -> None:
        self.url = destination.url
        self._destination = destination
        self._deadline = deadline
        self._scheme = "http" if plain_http else "https"
        self._stall = min(_STALL_SECONDS, max(1.0, deadline.left()))
        self._transport = Transport(self._stall)
        self._credentials = credentials_for(destination.host, destination.name)
        self._authorization = ""
        self._asked_pause = 0.0  # by the last answer
        self._scopes = [f"repository:{destination.name}:pull,push"]
        if also_pull:
            self._scopes.append(f"repository:{also_pull}:pull")

    @property
    def base(self) -> str:
        """The address of the repository in the API."""
        return f"{self._root}{self._destination.name}/"

    @property
    def _root(self) -> str:
        return f"{self._scheme}://{self._destination.address}/v2/"

    def check(self) -> None:
        """Make sure that a container registry answers and lets us in; find out whether it speaks TLS, on this machine.

        Raises:
            RegistryError: none does.
        """
        if self._scheme == "https" and self._destination.is_loopback and self._is_plain():
            self._scheme = "http"
        answer = self.call("GET", self._root, good={200, 403, 404}, verb="read")
        if is_page(answer.text) or answer.status == 404:
            raise no_registry(self.url, describe(answer.status, answer.text), page_title(answer.text))

    def call(
        self,
        method: str,
        path: str,
        *,
        good: Collection[int],
        what: str = "",
        verb: str = "push",
        headers: Mapping[str, str] | None = None,
        body: Blob = _NOTHING,
        again: bool = True,
    ) -> Answer:
        """An answer with one of the statuses ``good``; what may succeed at another time is tried again.

        Args:
            method: of HTTP.
            path: below the repository's address, or a whole address that the registry has answered.
            good: the statuses that are expected.
            what: the blob or tag, for messages: ``:v3``, ``@sha256:…`` or "".
            verb: what is tried, for messages: ``read`` or ``push``.
            headers: besides those of signing in.
            body: what is sent, anew at every attempt.
            again: whether to try again here; without, the error has ``patience`` where another attempt may succeed.

        Raises:
            RegistryError, RefusedError, IntegrityError: the registry refuses, or does not answer.
        """
        request = Request(method, urljoin(self.base, path), headers or {}, body=body.read, size=body.size)

        def ask() -> Answer:
            try:
                answer = self._signed_in(request)
            except OSError as error:
                raise unanswered(self.url, error, seconds=_STALL_SECONDS) from error
            if answer.status in good:
                return answer
            self._asked_pause = parse_retry_after(answer.headers.get("retry-after", ""))
            raise explain_refusal(self.url, verb, what, answer, self._credentials, _looked())

        return self.repeat(ask) if again else ask()

    def repeat(self, action: Callable[[], _Result]) -> _Result:
        """The action's result; it is called again, after a pause, while its error has ``patience``.

        Raises:
            ModeldropError: what the last call raised.
        """

        def attempt() -> _Result:
            self._asked_pause = 0.0
            return action()

        def again(error: Exception, _pause: float) -> bool:
            return isinstance(error, RegistryError) and bool(error.patience and self._deadline.left())

        pauses = (backoff(failures, _FIRST_PAUSE, _LONGEST_PAUSE) for failures in range(1, _ATTEMPTS))
        return retry(attempt, pauses, again, asked=lambda _: self._asked_pause, sleep=self._deadline.sleep)

    def give_up(self, url: str) -> None:
        """Tell the registry that an upload will not be finished, in a few seconds and without hearing what it says."""
        transport = Transport(_GIVE_UP_SECONDS)
        try:
            transport.send(Request("DELETE", url, self._headers(url)))
        except (OSError, CertificatesError):
            return
        finally:
            transport.close()

    def another(self) -> Client:
        """The same with connections of its own, for another thread; it has signed in as far as this one."""
        made = copy(self)
        made._transport = Transport(self._stall)  # noqa: SLF001  it is this class
        return made

    def interrupt(self) -> None:
        """From another thread: end the request that is going on, with an error."""
        self._transport.interrupt()

    def close(self) -> None:
        """Let go of all connections."""
        self._transport.close()

    def location(self, answer: Answer, what: str) -> str:
        """The whole address that an answer says to go on at.

        Raises:
            RegistryError: it says none, or one without TLS where the registry has TLS.
        """
        url = urljoin(self.base, answer.headers.get("location", ""))
        if not answer.headers.get("location") or urlsplit(url).scheme not in {"http", "https"}:
            raise no_registry(self.url, f"{answer.status} without an address to push {what} to")
        if self._scheme == "https" and urlsplit(url).scheme != "https":
            raise RegistryError(
                f"{self.url}: the registry, asked by https, names an address by http to push {what} to.",
                "A proxy before it must tell it that TLS is spoken: the header X-Forwarded-Proto, or the registry's "
                "own address (http.host of distribution, external_url of Harbor).",
            )
        return url

    def _is_plain(self) -> bool:
        """Whether a registry answers without TLS. Nothing is sent that is secret."""
        try:
            answer = self._send(Request("GET", f"http://{self._destination.address}/v2/", {}))
        except OSError:
            return False  # whatever it is will be said of the next request
        return not asks_for_tls(answer.text)

    def _send(self, request: Request) -> Answer:
        self._deadline.check(f"an answer of {self._destination.host}")
        try:
            return self._transport.send(request)
        except CertificatesError as error:
            raise RegistryError(str(error), "Fix its path, or unset it.") from None

    def _signed_in(self, request: Request) -> Answer:
        """The answer to a request, signed in as the registry asks; a token that has expired is replaced."""

        def ask() -> Answer:
            headers = {**request.headers, **self._headers(request.url)}
            return self._send(replace(request, headers=headers))

        answer = ask()
        if answer.status == 401 and self._is_own(request.url) and self._sign_in(answer):
            answer = ask()
        return answer

    def _headers(self, url: str) -> dict[str, str]:
        headers = {"User-Agent": _CLIENT}
        if self._authorization and self._is_own(url):  # what another host stores blobs for it must see no secret
            headers["Authorization"] = self._authorization
        return headers

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.base)[:2]

    def _sign_in(self, answer: Answer) -> bool:
        """Get what the registry asks for; whether there is anything new to sign in with."""
        before = self._authorization
        asked = dict(map(_parse_challenge, answer.challenges))
        if "bearer" in asked:
            self._authorization = f"Bearer {self._credentials.registry_token or self._get_token(asked['bearer'])}"
            return self._authorization != before
        if "basic" in asked:
            self._authorization = self._credentials.basic
        return self._authorization not in {"", before}

    def _get_token(self, challenge: Mapping[str, str]) -> str:
        """A token of the service that a registry names."""
        realm = challenge.get("realm", "")
        parts, here = urlsplit(realm), self._credentials
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise no_registry(self.url, "401 that names no service to sign in at")
        if self._scheme == "https" and parts.scheme != "https":
            raise RegistryError(
                f"{self.url}: the registry wants a password sent to {parts.scheme}://{parts.netloc}, without TLS.",
                "Its token service needs an address with https.",
            )
        query = [("service", challenge["service"])] if challenge.get("service") else []
        scopes = [("scope", scope) for scope in self._scopes]
        if here.identity_token:
            form = [("grant_type", "refresh_token"), ("refresh_token", here.identity_token), ("client_id", _CLIENT)]
            data = urlencode([*form, *query, ("scope", " ".join(self._scopes))]).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = Request("POST", realm, headers, body=lambda: (data,), size=len(data))
        else:
            more = [("client_id", _CLIENT), ("account", here.user)] if here.user else []
            headers = {"Authorization": here.basic} if here.basic else {}
            url = f"{realm}{'&' if parts.query else '?'}{urlencode([*query, *scopes, *more])}"
            request = Request("GET", url, headers)
        answer = self._send(request)
        if answer.status != 200:
            if answer.status in {400, 401, 403}:
                answer = Answer(401, answer.headers, (), answer.body)
            raise explain_refusal(self.url, "push", "", answer, here, _looked())
        token = _token_in(answer)
        if not token:
            raise no_registry(self.url, f"{parts.netloc}, where it has one sign in, gives no token")
        return token


def _looked() -> str:
    return ", ".join(str(path) for path in auth_files())


def _parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """The scheme of a header WWW-Authenticate, in small letters, and its parameters."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        for name, quoted, plain in _PARAMETER.findall(rest)
    }


def _token_in(answer: Answer) -> str:
    try:
        document: dict[str, Any] = json.loads(answer.body)
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        return ""
    # What cannot be a header's value is no token.
    return token if isinstance(token, str) and token.isascii() and token.isprintable() else ""
