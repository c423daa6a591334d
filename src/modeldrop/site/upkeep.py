"""Keep the pages in a registry up to date, where modeldrop.toml says ``site = true`` of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from modeldrop.config import registry_settings
from modeldrop.errors import ModeldropError
from modeldrop.storage.write.store import Store
from modeldrop.util.text import first_line


def keep_site(store: Store, model: str, changed: Iterable[int] = ()) -> None:
    """Update the pages that a change concerns. What was done to the registry stands, whatever becomes of its pages.

    Args:
        store: the registry.
        model: the model that has changed.
        changed: versions that were published, marked or sealed; moves of channels are found.
    """
    if not registry_settings(store.url).site:
        return
    try:
        from modeldrop.site.writing import update_site  # most registries have no pages

        update_site(store, model, changed)
    except ModeldropError as error:
        _warn(f"{error.message} {error.hint}".strip())
    except Exception as error:  # noqa: BLE001  a defect of the pages must not become one of the publish
        _warn(f"{type(error).__name__}: {first_line(error)}")


def _warn(why: str) -> None:
    print(  # noqa: T201  a warning, on standard error
        f"modeldrop: warning: the registry's pages were not updated: {why} All else is done. To write them again: "
        "modeldrop site --publish",
        file=sys.stderr,
    )
