"""The attestation beside a version: a Sigstore bundle, which ``trust/attestation.py`` verifies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.config import variable
from modeldrop.errors import ConflictError
from modeldrop.format import keys
from modeldrop.trust.attestation import Attestation, Builder, check_subject, verify_attestation

if TYPE_CHECKING:
    from modeldrop.registry.versions import Version
    from modeldrop.storage.write.store import Store


def read_attestation(store: Store, model: str, number: int) -> bytes | None:
    """The bytes of the attestation on a version, None if there is none."""
    stored = store.get(keys.attestation(model, number))
    return None if stored is None else stored.data


def check_attestation(store: Store, model: str, number: int, digest: str, builder: Builder) -> Attestation:
    """What the attestation on a version says, if it is right.

    Raises:
        TrustError: it is missing, not right, of another builder, or about something else.
        MissingExtraError: sigstore is not installed.
    """
    return verify_attestation(
        read_attestation(store, model, number),
        builder,
        digest=digest,
        where=f"{store.url}/{keys.attestation(model, number)}",
        trusted_root=variable("sigstore_root"),
    )


def add_attestation(store: Store, model: str, version: Version, data: bytes, what: str) -> bool:
    """Store an attestation beside the version that it is about; whoever relies on it verifies it.

    Returns:
        Whether it was added: one that is there already stays.

    Args:
        store: the registry.
        model: the model.
        version: the version.
        data: the bundle.
        what: what it is called, for messages.

    Raises:
        FormatError: it is none, or about another version.
        FormatError: what is there already is none, or about another version.
    """
    check_subject(data, version.digest, what)
    key = keys.attestation(model, version.number)
    try:
        store.create(key, data)
    except ConflictError:
        present = read_attestation(store, model, version.number)
        if present == data:
            return False
        check_subject(present or b"", version.digest, f"{store.url}/{key}, which is there already,")
        return False
    return True
