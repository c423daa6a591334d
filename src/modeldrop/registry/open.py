"""From a registry's URL to its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.errors import UsageError
from modeldrop.format.reference import parse_registry

if TYPE_CHECKING:
    from modeldrop.registry.store import Store


def open_store(registry: str) -> Store:
    """Open a registry for reading and writing.

    Raises:
        UsageError: no registry is named, it is read-only, or this release cannot write to its kind.
    """
    registry = parse_registry(registry)
    scheme, separator, _ = registry.partition("://")
    if not separator:
        from modeldrop.registry.local import LocalStore

        return LocalStore(registry)
    if scheme == "https":
        raise UsageError(f"{registry} is read-only.", "Publish to the bucket behind it: s3://, gs:// or az://.")
    raise UsageError(f"This release cannot write to {scheme}:// registries.", "Use a folder.")
