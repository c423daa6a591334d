"""Rejecting: writing down that a version failed its acceptance test, so that no publish ever moves a channel to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.errors import ConflictError
from modeldrop.format import keys
from modeldrop.format.records import Rejection, serialize_rejection
from modeldrop.registry.provenance import provenance
from modeldrop.registry.versions import find_rejection

if TYPE_CHECKING:
    from modeldrop.storage.write.store import Store


def reject(store: Store, model: str, number: int, rejection: Rejection) -> Rejection:
    """Mark a version as rejected; return the mark that it has now, which may be another publisher's.

    Raises:
        RegistryError: the registry cannot be written.
    """
    try:
        store.create(keys.rejected(model, number), serialize_rejection(rejection))
    except ConflictError:
        return find_rejection(store, model, number) or rejection
    return rejection


def rejection_now(why: str) -> Rejection:
    """A mark of this moment and this run."""
    here = provenance()
    return Rejection(at=here.created, by=here.actor, run=here.run, why=why)
