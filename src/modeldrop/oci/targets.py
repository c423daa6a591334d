"""What an export is pushed to: a container registry, or a folder with an OCI layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modeldrop.oci.blobs import Blob, Content
    from modeldrop.oci.documents import PushedDocument


class Target(Protocol):
    """Takes blobs, then the manifests that name them, and last what tags name.

    Every method raises RegistryError or DiskError where the target cannot be read or written.
    """

    url: str
    """How people call it."""

    def check(self) -> None:
        """Make sure that it is what it should be, before any slow work."""

    def tagged(self, tag: str) -> str | None:
        """The digest of what a tag names, None where it names nothing."""

    def begin(self, content: Content) -> None:
        """Perhaps begin to send it, beside what else is done, until ``has`` or ``push`` is called with its digest.

        For what is probably not there. What fails here is no error: ``push`` sends it then.
        """

    def has(self, blob: Blob) -> bool:
        """Whether the blob is there; it may be brought there from elsewhere in the target, without sending it."""

    def push(self, blob: Blob, progress: Callable[[int], None]) -> None:
        """Send a blob; ``progress`` is told bytes as they go, and negative ones where an attempt was in vain.

        Raises:
            IntegrityError: it did not arrive as it should.
        """

    def push_manifest(self, document: PushedDocument) -> None:
        """Send a manifest that another one names."""

    def tag(self, document: PushedDocument, tag: str, before: str | None) -> None:
        """Send a manifest and let a tag name it.

        Raises:
            ConflictError: the tag does not name ``before`` any more, or names another one right afterwards.
        """

    def close(self, *, failed: bool) -> None:
        """End the work; if it has ``failed``, what nothing names is removed where that can be done."""


def moved_meanwhile(target: str, tag: str, found: str | None) -> str:
    """The sentence for a tag that somebody else has moved."""
    return f"{target}:{tag} was moved by somebody else meanwhile, and names {found or 'nothing'} now."
