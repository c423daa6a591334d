"""Lets nothing be used that a repository's workflow has not attested to, and remembers what was verified.

What is right is decided in ``trust/attestation.py``. ``.attested/<digest>.json`` tells for whom the attestation on the
version with this manifest digest was verified, so that it is verified once, and ``last-good`` finds what was. Loaded
only where an attestation is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.config import variable
from modeldrop.errors import FormatError
from modeldrop.fetcher.notes import note_path, read_note, write_note
from modeldrop.fetcher.trust_check import known_digest, refuse_pruned
from modeldrop.format import keys
from modeldrop.format.manifest import manifest_digest
from modeldrop.format.names import DIGEST
from modeldrop.trust.attestation import verify_attestation

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.fetcher.home import ModelHome
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.resolve import ResolvedVersion, Resolver
    from modeldrop.trust.attestation import Builder

_ATTESTED = ".attested"


class AttestationCheck:
    """Checks what is about one model.

    Args:
        builder: whose attestation a version must have.
        home: the model's folder, where is remembered what was verified.
    """

    def __init__(self, builder: Builder, home: ModelHome) -> None:
        self._builder = builder
        self._home = home.path
        self._verified = ""

    def check_version(
        self, version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None
    ) -> ResolvedVersion:
        """Refuse a version that is not attested; none of its files is asked for.

        Args:
            version: what is wanted.
            resolver: reads the registry.
            stored: what this disk knows of the channel.

        Returns:
            The version with the digest that was attested.

        Raises:
            TrustError: there is no right attestation by this builder on it.
            NotFoundError: there is none, and the channel names another version by now; or there is no such version.
            RegistryError: it cannot be read.
            MissingExtraError: sigstore is not installed.
        """
        digest = version.digest or known_digest(self._home, version.version, self.was_verified)
        if digest is None:  # an attestation may be about several manifests: which one is under this number?
            digest = manifest_digest(resolver.read_manifest(version))
        if not self.was_verified(digest):
            data = resolver.read_attestation(version)
            if data is None:
                refuse_pruned(version, resolver, stored)
            where = f"{resolver.registry}/{keys.attestation(resolver.reference.model, version.version)}"
            root = variable("sigstore_root")
            verify_attestation(data, self._builder, digest=digest, where=where, trusted_root=root)
            self._verified = digest
        return version._replace(digest=digest)

    def remember(self) -> None:
        """Write down whose attestation was verified, if one was: now the version is here."""
        if self._verified:
            write_note(self._note(self._verified), {"digest": self._verified, "builder": str(self._builder)})

    def was_verified(self, digest: str) -> bool:
        """Whether such an attestation on the version with this manifest digest was verified here."""
        try:
            found, _ = read_note(self._note(digest), "note of an attestation")
            return bool(found.text("builder") == str(self._builder) and found.text("digest", pattern=DIGEST) == digest)
        except (OSError, FormatError):
            return False

    def _note(self, digest: str) -> Path:
        return note_path(self._home, _ATTESTED, digest.removeprefix("sha256:"))
