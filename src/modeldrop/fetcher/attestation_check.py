"""Refuse what a repository's workflow has not attested to; the rules are in ``trust/attestation.py``.

Remembered is for whom the attestation on a version was verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.config import variable
from modeldrop.fetcher.version_check import VersionCheck, refuse_pruned
from modeldrop.format import keys
from modeldrop.format.manifest import manifest_digest
from modeldrop.trust.attestation import verify_attestation

if TYPE_CHECKING:
    from modeldrop.fetcher.home import ModelHome
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.resolve import ResolvedVersion, Resolver
    from modeldrop.format.json_fields import Fields
    from modeldrop.trust.attestation import Builder


class AttestationCheck(VersionCheck):
    """Asks for attestations.

    Args:
        builder: whose attestation a version must have.
        home: see ``VersionCheck``.
    """

    folder = ".attested"
    evidence = "an attestation"

    def __init__(self, builder: Builder, home: ModelHome) -> None:
        super().__init__(home)
        self._builder = builder

    def verify(self, version: ResolvedVersion, resolver: Resolver, stored: ChannelState | None) -> str:
        # An attestation may be about several manifests: which one is under this number?
        digest = version.digest or manifest_digest(resolver.read_manifest(version))
        if self.was_verified(digest):
            return digest
        data = resolver.read_attestation(version)
        if data is None:
            refuse_pruned(version, resolver, stored)
        where = f"{resolver.registry}/{keys.attestation(resolver.reference.model, version.version)}"
        root = variable("sigstore_root")
        verify_attestation(data, self._builder, digest=digest, where=where, trusted_root=root)
        self._verified = {"digest": digest, "builder": str(self._builder)}
        return digest

    def would_do(self, found: Fields) -> bool:
        return bool(found.text("builder") == str(self._builder))
