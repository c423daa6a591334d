"""Checks that a store honours conditional writes: some services that speak S3 accept the condition and ignore it.

Publishing is only safe with create-only writes and compare-and-swap, so both are tried, on an object of its own at
the registry's root. It stays there: publishers need no right to delete.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modeldrop.errors import ConflictError
from modeldrop.storage import errors as storage_errors

if TYPE_CHECKING:
    from modeldrop.storage.write.store import Store

KEY = ".modeldrop"
"""The object that they are tried on. No model can have that name."""

IGNORED_CREATE = "it accepted a create-only write of an object that is there"
REFUSED_CREATE = "it refuses to create an object, as if one were there, and none is"
IGNORED_SWAP = "it accepted a compare-and-swap with a wrong tag"
REFUSED_SWAP = "it refused a compare-and-swap with the right tag"

TEXT = json.dumps(
    {
        "schema": 1,
        "purpose": "modeldrop tries to create this object again, and to replace it with a wrong tag, to prove that "
        "conditional writes are honoured here. It holds nothing else, and may be deleted.",
    },
    indent=2,
).encode()
# Well-formed, so that no service refuses them for their form, and none that a service has ever given out.
_WRONG_TAGS = {
    "s3": '"00000000000000000000000000000000"',
    "gs": "999999999999999999",
    "az": '"0x8000000000000000"',
}


def require_conditional_writes(store: Store) -> None:
    """Refuse a store where two publishers could overwrite each other.

    It takes two or three requests, and one more the first time.

    Raises:
        RegistryError: it does not honour both conditions, or cannot be written.
    """
    if "://" not in store.url:
        return  # a folder promises both; a file system that cannot says so at the first write
    if not honours_create_only(store, KEY):
        raise storage_errors.no_conditional_writes(store.url, IGNORED_CREATE)
    if not honours_swap(store, KEY):
        raise storage_errors.no_conditional_writes(store.url, IGNORED_SWAP)


def honours_create_only(store: Store, key: str) -> bool:
    """Whether an object that is there is not created again. Leaves an object at ``key``."""
    for _ in range(2):
        try:
            store.create(key, TEXT)
        except ConflictError:
            return True
    return False


def honours_swap(store: Store, key: str) -> bool:
    """Whether a compare-and-swap with a wrong tag is refused. An object must be at ``key``."""
    try:
        store.swap(key, TEXT, wrong_tag(store.url))
    except ConflictError:
        return True
    return False


def wrong_tag(url: str) -> str:
    """A tag that no object of this kind of registry has, in the form that its service gives tags."""
    scheme, separator, _ = url.partition("://")
    return _WRONG_TAGS[scheme] if separator else "999999999"
