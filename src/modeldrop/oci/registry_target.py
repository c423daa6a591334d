"""A container registry as the target of an export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from modeldrop.errors import ConflictError, IntegrityError, ModeldropError
from modeldrop.oci.blobs import digest_of
from modeldrop.oci.documents import OCI_INDEX, OCI_MANIFEST
from modeldrop.oci.targets import moved_meanwhile
from modeldrop.oci.upload_ahead import UploadAhead, finishing

if TYPE_CHECKING:
    from modeldrop.oci.blobs import Blob, Content
    from modeldrop.oci.client import Client
    from modeldrop.oci.documents import PushedDocument

_DOCKER_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ANY_MANIFEST = {"Accept": ", ".join((OCI_INDEX, OCI_MANIFEST, *_DOCKER_MANIFESTS, "*/*"))}
# Registries that keep blobs elsewhere answer HEAD with where they are.
_THERE = frozenset({200, 301, 302, 303, 307, 308})
_MIN_AHEAD = 8 << 20  # bytes; less is hashed before a connection is made


class RegistryTarget:
    """A repository of a container registry. The methods are described in ``targets.Target``.

    Args:
        client: asks the repository.
        mount_from: another repository of that registry, whose blobs need not be sent again; or "".
    """

    def __init__(self, client: Client, mount_from: str = "") -> None:
        self.url = client.url
        self._client = client
        self._mount_from = mount_from
        self._sessions: dict[str, str] = {}
        self._ahead: dict[Callable[[], Iterator[bytes]], UploadAhead] = {}  # by what reads the bytes

    def check(self) -> None:
        self._client.check()

    def tagged(self, tag: str) -> str | None:
        answer = self._client.call(
            "GET", f"manifests/{tag}", good={200, 404}, what=f":{tag}", verb="read", headers=_ANY_MANIFEST
        )
        return digest_of(answer.body) if answer.status == 200 else None

    def begin(self, content: Content) -> None:
        if content.size >= _MIN_AHEAD:
            self._ahead[content.read] = UploadAhead(self._client.another(), content)

    def has(self, blob: Blob) -> bool:
        is_there = self._has(blob)
        if is_there and (ahead := self._ahead.pop(blob.read, None)):
            ahead.cancel()
        return is_there

    def _has(self, blob: Blob) -> bool:
        what = f"@{blob.digest}"
        answer = self._client.call("HEAD", f"blobs/{blob.digest}", good={*_THERE, 404}, what=what, verb="read")
        if answer.status in _THERE:
            return True
        if not self._mount_from:
            return False
        query = urlencode({"mount": blob.digest, "from": self._mount_from})
        answer = self._client.call("POST", f"blobs/uploads/?{query}", good={201, 202}, what=what)
        if answer.status == 202:  # it has none, and has begun an upload instead
            session = self._client.location(answer, what)
            if blob.read in self._ahead:
                self._client.give_up(session)
            else:
                self._sessions[blob.digest] = session
        return answer.status == 201

    def push(self, blob: Blob, progress: Callable[[int], None]) -> None:
        what, sent = f"@{blob.digest}", 0
        if blob.read in self._ahead and self._ahead[blob.read].finish(blob, progress):
            return

        def body() -> Iterator[bytes]:
            nonlocal sent
            progress(-sent)
            sent = 0
            for chunk in blob.read():
                yield chunk
                sent += len(chunk)
                progress(len(chunk))

        def attempt() -> None:
            # Every attempt has an upload of its own: what one has left that broke off is the registry's to say.
            session = self._sessions.pop(blob.digest, "")
            if not session:
                answer = self._client.call("POST", "blobs/uploads/", good={202}, what=what, again=False)
                session = self._client.location(answer, what)
            try:
                self._client.call(
                    "PUT",
                    finishing(session, blob),
                    good={201, 204},
                    what=what,
                    headers={"Content-Type": "application/octet-stream"},
                    body=replace(blob, read=body),
                    again=False,
                )
            except (KeyboardInterrupt, ModeldropError):
                self._client.give_up(session)
                raise

        self._client.repeat(attempt)

    def push_manifest(self, document: PushedDocument) -> None:
        self._put(document, document.blob.digest, f"@{document.blob.digest}")

    def tag(self, document: PushedDocument, tag: str, before: str | None) -> None:
        # The API knows no conditional write: what was there is looked at right before, and what is there right after.
        found = self.tagged(tag)
        if found == before:
            self._put(document, tag, f":{tag}")
            before, found = document.blob.digest, self.tagged(tag)
        if found != before:
            raise ConflictError(moved_meanwhile(self.url, tag, found), "Run the same command again.")

    def close(self, *, failed: bool) -> None:
        for ahead in self._ahead.values():
            ahead.cancel()
        if failed:
            for session in self._sessions.values():
                self._client.give_up(session)
        self._client.close()

    def _put(self, document: PushedDocument, name: str, what: str) -> None:
        blob = document.blob
        answer = self._client.call(
            "PUT",
            f"manifests/{name}",
            good={200, 201, 202},
            what=what,
            headers={"Content-Type": document.media_type},
            body=blob,
        )
        found = answer.headers.get("docker-content-digest", blob.digest)
        if found != blob.digest:
            raise IntegrityError(
                f"{self.url}{what} was changed on its way: the registry has stored {found[:80]}, not {blob.digest}.",
                "The registry converts what it is given. Push to one that keeps OCI manifests as they are.",
            )
