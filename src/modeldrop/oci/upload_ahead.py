"""An upload that begins before the digest of what is sent is known: one thread sends while another one hashes.

The API lets an upload be named at its end: POST begins it, PATCH sends the bytes, PUT says the digest, which the
registry compares. docker and podman send all blobs so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from modeldrop.errors import ModeldropError, RegistryError
from modeldrop.oci.blobs import Blob

if TYPE_CHECKING:
    from modeldrop.oci.blobs import Content
    from modeldrop.oci.client import Client

_TICK_SECONDS = 0.1
_CANCEL_SECONDS = 5.0
_BYTES = {"Content-Type": "application/octet-stream"}
_WHAT = "the layer"


class _GivenUpError(Exception):
    """Ends the thread."""


class UploadAhead:
    """Sends from the moment it is made; ends with ``finish`` or ``cancel``.

    Args:
        client: asks the repository, and is asked by nobody else.
        content: what is sent.
    """

    def __init__(self, client: Client, content: Content) -> None:
        self._client = client
        self._content = content
        self._session = ""
        self._sent = 0
        self._is_sent = self._is_cancelled = False
        # A daemon, so that a registry that hangs keeps no process from ending.
        self._thread = threading.Thread(target=self._send, name="upload ahead", daemon=True)
        self._thread.start()

    def finish(self, blob: Blob, progress: Callable[[int], None]) -> bool:
        """Wait until everything is sent, and say what it is.

        Args:
            blob: the same bytes with their digest.
            progress: told bytes as they go, and negative ones if they were sent in vain.

        Returns:
            Whether the registry has it. If not, nothing is left of the upload, and another one may succeed.

        Raises:
            RegistryError, RefusedError, IntegrityError: the registry does not want what was sent.
        """
        told = 0
        while self._thread.is_alive():
            self._thread.join(_TICK_SECONDS)
            told, before = self._sent, told
            progress(told - before)
        if self._is_sent:
            try:
                self._client.call(
                    "PUT", finishing(self._session, blob), good={201, 204}, what=f"@{blob.digest}", again=False
                )
            except RegistryError as error:
                if not error.patience:
                    raise
            else:
                self._session = ""
                self._client.close()
                progress(blob.size - told)
                return True
        self.cancel()
        progress(-told)
        return False

    def cancel(self) -> None:
        """Send no more, and tell the registry so; nothing where it is finished."""
        self._is_cancelled = True
        if self._thread.is_alive():
            self._client.interrupt()
            self._thread.join(_CANCEL_SECONDS)
        session, self._session = self._session, ""
        if session:
            self._client.give_up(session)
        if not self._thread.is_alive():
            self._client.close()

    def _send(self) -> None:
        client = self._client
        try:
            answer = client.call("POST", "blobs/uploads/", good={202}, what=_WHAT, again=False)
            self._session = client.location(answer, _WHAT)
            body = Blob("", self._content.size, self._body)
            answer = client.call("PATCH", self._session, good={202}, what=_WHAT, headers=_BYTES, body=body, again=False)
            self._session = client.location(answer, _WHAT)
            self._is_sent = True
        except (ModeldropError, OSError, _GivenUpError):
            return  # who hashes reads the same files, and who pushes asks the same registry: they say what is wrong

    def _body(self) -> Iterator[bytes]:
        self._sent = 0
        for chunk in self._content.read():
            if self._is_cancelled:
                raise _GivenUpError
            yield chunk
            self._sent += len(chunk)


def finishing(session: str, blob: Blob) -> str:
    """The address that ends an upload: the one of its session, with the digest."""
    return f"{session}{'&' if '?' in session else '?'}digest={quote(blob.digest)}"
