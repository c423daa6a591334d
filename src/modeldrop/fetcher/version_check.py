"""Refuse versions that lack the evidence that is required, signatures or attestations; remember what was verified.

``trust_check.py`` and ``attestation_check.py`` say what counts as evidence. ``<folder>/<digest>.json`` tells by what
the version with this manifest digest was verified: so what is here is verified once, and ``last-good`` finds what was.
Loaded only where evidence is wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from modeldrop.errors import FormatError, NotFoundError
from modeldrop.fetcher.home import find_snapshots
from modeldrop.fetcher.notes import note_path, read_note, write_note
from modeldrop.format.names import DIGEST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modeldrop.fetcher.home import ModelHome
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.resolve import ResolvedVersion, Resolver
    from modeldrop.format.json_fields import Fields


class VersionCheck(ABC):
    """Checks what is about one model.

    Args:
        home: the model's folder, where is remembered what was verified.
    """

    folder: ClassVar[str]
    """Where the notes lie, in the model's folder."""
    evidence: ClassVar[str]
    """What people call it, with its article."""

    def __init__(self, home: ModelHome) -> None:
        self._home = home.path
        self._verified: Mapping[str, object] = {}

    def check_version(
        self, version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None
    ) -> ResolvedVersion:
        """Refuse a version without evidence; none of its files is asked for.

        Args:
            version: what is wanted.
            resolver: reads the registry.
            stored: what this disk knows of the channel.

        Returns:
            The version with the digest that the evidence is about.

        Raises:
            TrustError: the evidence is not what is wanted.
            NotFoundError: there is none, and the channel names another version by now; or there is no such version.
            RegistryError: it cannot be read.
            MissingExtraError: what verifies it is not installed.
        """
        digest = version.digest or self._known_digest(version.version)
        if digest is None or not self.was_verified(digest):
            digest = self.verify(version, resolver, stored)
        return version._replace(digest=digest)

    def remember(self) -> None:
        """Write down what was verified, if anything was: now the version is here."""
        if self._verified:
            write_note(self._note(str(self._verified["digest"])), self._verified)

    def was_verified(self, digest: str) -> bool:
        """Whether the version with this manifest digest was verified here, by what would do now."""
        try:
            found, _ = read_note(self._note(digest), f"note of {self.evidence}")
            return self.would_do(found) and found.text("digest", pattern=DIGEST) == digest
        except (OSError, FormatError):
            return False

    @abstractmethod
    def verify(self, version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None) -> str:
        """Read the evidence, and note in ``_verified`` what it says; return the manifest digest that it is about.

        Raises: see ``check_version``.
        """

    @abstractmethod
    def would_do(self, found: Fields) -> bool:
        """Whether what a note says is what is wanted now.

        Raises:
            FormatError: the note is damaged.
        """

    def _known_digest(self, number: int) -> str | None:
        """The digest of a snapshot that is here and was verified under this number, for whoever names the number."""
        for local in find_snapshots(self._home):
            if local.version == number:
                try:
                    digest = local.digest
                except (OSError, FormatError):
                    continue
                if self.was_verified(digest):
                    return digest
        return None

    def _note(self, digest: str) -> Path:
        return note_path(self._home, self.folder, digest.removeprefix("sha256:"))


def refuse_pruned(version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None) -> None:
    """Say of a version that lacks a document that it is gone, if the channel names another one by now.

    Raises:
        NotFoundError: it does: whoever asks looks again.
        RegistryError: the channel cannot be read.
    """
    if version.generation is not None and resolver.resolve(stored) != version:
        raise NotFoundError(f"{resolver.version_url(version)} is gone.")
