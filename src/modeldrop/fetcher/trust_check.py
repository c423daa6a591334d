"""Lets nothing be used that trusted keys have not signed: asks for the signatures, and remembers whose were right.

What is right is decided in ``trust/rules.py``. ``.statements/<digest>.json`` tells which trusted keys have signed the
version with this manifest digest: so a version that is here is not asked for again, and ``last-good`` finds what was
verified. Whoever asks compares them with the keys that are trusted now. Loaded only where keys are listed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError, NotFoundError
from modeldrop.fetcher.home import find_snapshots
from modeldrop.fetcher.notes import note_path, read_note, write_note
from modeldrop.format.names import DIGEST
from modeldrop.trust.rules import verify_channel, verify_statement
from modeldrop.util.text import iso_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.fetcher.home import ModelHome
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.resolve import ResolvedVersion, Resolver
    from modeldrop.format.channel import Channel
    from modeldrop.trust.rules import Trust, Verified

_STATEMENTS = ".statements"
_MAX_SIGNERS = 64


class TrustCheck:
    """Checks what is about one model.

    Args:
        trust: who is trusted.
        home: the model's folder, where is remembered what was verified.
    """

    def __init__(self, trust: Trust, home: ModelHome) -> None:
        self._trust = trust
        self._home = home.path
        self._verified: Verified | None = None

    def check_channel(self, channel: Channel, name: str, where: str) -> str:
        """Refuse a channel's document that is not signed for this channel of this model, or has expired.

        Returns:
            When its signature expires, "" if it does not.

        Args:
            channel: the document.
            name: the channel's name.
            where: its address.

        Raises:
            TrustError: it is not.
        """
        now = iso_time(time.time())
        return verify_channel(self._trust, channel, model=self._home.name, name=name, where=where, now=now).expires

    def check_version(
        self, version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None
    ) -> ResolvedVersion:
        """Refuse a version that is not signed; nothing of it but its statement is asked for.

        Args:
            version: what is wanted.
            resolver: reads the registry.
            stored: what this disk knows of the channel.

        Returns:
            The version with the digest that was signed.

        Raises:
            TrustError: it is not signed for this model and digest.
            NotFoundError: it is not signed, and the channel names another one by now.
            RegistryError: its statement cannot be read.
        """
        digest = version.digest or known_digest(self._home, version.version, self.was_verified)
        if digest is not None and self.was_verified(digest):
            return version._replace(digest=digest)
        data = resolver.read_statement(version)
        if data is None:
            refuse_pruned(version, resolver, stored)
        where = f"{resolver.version_url(version)}/statement.json"
        self._verified = verify_statement(self._trust, data, model=self._home.name, digest=version.digest, where=where)
        return version._replace(digest=self._verified.digest)

    def remember(self) -> None:
        """Write down whose statement was verified, if one was: now the version is here."""
        if self._verified is not None:
            values = {"digest": self._verified.digest, "signers": list(self._verified.signers)}
            write_note(self._note(self._verified.digest), values)

    def was_verified(self, digest: str) -> bool:
        """Whether the statement on the version with this manifest digest was verified under keys that do now."""
        try:
            found, _ = read_note(self._note(digest), "note of a statement")
            signers = found.texts("signers", limit=_MAX_SIGNERS)
            return self._trust.is_met_by(signers) and found.text("digest", pattern=DIGEST) == digest
        except (OSError, FormatError):
            return False

    def _note(self, digest: str) -> Path:
        return note_path(self._home, _STATEMENTS, digest.removeprefix("sha256:"))


def known_digest(home: Path, number: int, was_verified: Callable[[str], bool]) -> str | None:
    """The digest of a snapshot that is here and was verified under this number, for whoever names the number."""
    for local in find_snapshots(home):
        if local.version == number:
            try:
                digest = local.digest
            except (OSError, FormatError):
                continue
            if was_verified(digest):
                return digest
    return None


def refuse_pruned(version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None) -> None:
    """Say of a version that lacks a document that it is gone, if the channel names another one by now.

    Raises:
        NotFoundError: it does: whoever asks looks again.
        RegistryError: the channel cannot be read.
    """
    if version.generation is not None and resolver.resolve(stored) != version:
        raise NotFoundError(f"{resolver.version_url(version)} is gone.")
