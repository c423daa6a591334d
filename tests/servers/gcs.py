"""A small GCS server in a process of its own: how tests start it and what they ask of it."""

from __future__ import annotations

import http.client
import json
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.helpers.waiting import HANG_SECONDS

_ROOT = Path(__file__).parents[2]


class GCSServer:
    """See ``CloudServer``, and ``gcs_app`` for what it is worth.

    Our own code takes STORAGE_EMULATOR_HOST as Google's SDK does: the service's address, and nobody signs in.
    """

    name = "gcs"

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.servers.gcs_app", "0"]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())  # it is listening once it has printed this
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.communicate()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def registry(self) -> str:
        return f"gs://{self.make_bucket()}/team/models"

    def make_bucket(self, resource: Mapping[str, Any] | None = None) -> str:
        """Make an empty bucket and return its name; ``resource``: what its metadata says besides."""
        name = f"bucket-{secrets.token_hex(6)}"
        self._ask("POST", f"/_buckets/{name}", dict(resource or {}))
        return name

    def requests(self) -> list[tuple[str, str]]:
        """The method and path (with its query) of every request since the last reset."""
        return [(method, path) for method, path in self._ask("GET", "/_requests")]

    def reset(self) -> None:
        """Forget the requests, and whatever was to fail."""
        self._ask("DELETE", "/_requests")

    def fail(
        self,
        status: int,
        reason: str = "",
        *,
        message: str = "",
        method: str = "",
        match: str = "",
        times: int = 1,
        retry_after: str = "",
    ) -> None:
        """Refuse the next ``times`` requests of this method that have ``match`` in their path or query.

        Args:
            status: of the answer.
            reason: Google's word for it, such as ``rateLimitExceeded``; the XML API's begins with a capital.
            message: for people.
            method: only of requests with this one.
            match: only of requests that have this in path or query.
            times: how often.
            retry_after: the header.
        """
        answer = {"status": status, "reason": reason, "message": message, "retry_after": retry_after}
        self._rule("refuse", method, match, times, answer)

    def answer(self, status: int, body: str, *, method: str, match: str, times: int = 1) -> None:
        """Answer the next such requests with something that Google would not say."""
        self._rule("answer", method, match, times, {"status": status, "body": body})

    def cut(self, *, method: str = "", match: str = "", times: int = 1) -> None:
        """Close the connection of the next such requests without doing or saying anything."""
        self._rule("cut", method, match, times, {})

    def lose_reply(self, *, method: str = "", match: str = "", times: int = 1) -> None:
        """Do what the next such requests ask, then close the connection instead of answering."""
        self._rule("lose", method, match, times, {})

    def halve(self, *, method: str = "", match: str = "", times: int = 1) -> None:
        """Keep half of what the next such requests bring, then close the connection."""
        self._rule("halve", method, match, times, {})

    def hold(self, *, method: str = "", match: str = "", times: int = 1) -> None:
        """Neither do nor answer what the next such requests ask, until their clients hang up."""
        self._rule("hold", method, match, times, {})

    def flip(self, *, method: str = "", match: str = "", times: int = 1) -> None:
        """Flip a bit in the middle of what the next such requests send."""
        self._rule("flip", method, match, times, {})

    def ignore_conditions(self, *, times: int = 1) -> None:
        """Let the next requests through whatever their conditions say, as careless look-alikes do."""
        self._rule("ignore", "", "", times, {})

    def spoil(self) -> None:
        """Flip a bit of the next object that is put together from parts."""
        self._rule("spoil", "POST", "uploadId=", 1, {})

    def refuse_sign_in(self, error: str, description: str) -> None:
        """Give no more tokens, until the reset."""
        self._ask("POST", "/_sign_in", {"error": {"error": error, "error_description": description}})

    @property
    def token_uri(self) -> str:
        """Where service accounts get tokens."""
        return f"{self.endpoint}/_token"

    def page_size(self, most: int) -> None:
        """Never list more than so many names in one answer."""
        self._ask("POST", "/_pages", {"most": most})

    def pace(self, seconds: float) -> None:
        """Take one write of an object in so many seconds, until the reset: Google's service takes about one in one."""
        self._ask("POST", "/_pace", {"seconds": seconds})

    def unfinished(self, bucket: str) -> list[str]:
        """The names of a bucket's objects whose upload has begun and not ended, of either kind."""
        return list(self._ask("GET", f"/_unfinished/{bucket}"))

    def object(self, bucket: str, name: str) -> Any:
        """An object's metadata."""
        return self._ask("GET", f"/_objects/{bucket}", {"name": name})

    def _rule(self, do: str, method: str, match: str, times: int, more: Mapping[str, Any]) -> None:
        self._ask("POST", "/_rules", {"do": do, "method": method, "match": match, "times": times, **more})

    def _ask(self, method: str, path: str, document: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
        try:
            connection.request(method, path, None if document is None else json.dumps(document))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        assert response.status == 200, body
        return json.loads(body)
