"""A scratch model for a conformance check, removed after it, and the check's assertions."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import obstore

from modeldrop.config import registry_settings
from modeldrop.errors import ConflictError, ModeldropError
from modeldrop.storage.read.interface import RegistryReader, open_reader
from modeldrop.storage.read.obstore_client import open_client
from modeldrop.storage.write.store import Store, StoredObject

PREFIX = "conformance-"
"""Scratch models begin with it: one that a killed run left behind is known by its name, and may be deleted."""

_THREADS = 16


@dataclass(frozen=True, slots=True)
class ScratchModel:
    """A scratch model, as its publishers and as its readers have it, with an empty local folder."""

    store: Store
    model: str
    folder: Path

    def open_reader(self) -> RegistryReader:
        """A reader of its own, as a container opens it."""
        return open_reader(self.store.url)

    def headers(self, name: str) -> Mapping[str, str]:
        """What readers get an object served as: ``Content-Type`` and ``Cache-Control``."""
        # The fetcher has no use for them, so its reader does not offer them.
        found = obstore.get(open_client(registry_settings(self.store.url)).store, self.key(name)).attributes
        return {header: str(value) for header, value in found.items()}

    def key(self, name: str) -> str:
        """The key of ``name`` in the scratch model."""
        return f"{self.model}/{name}"

    def present(self, key: str) -> StoredObject:
        """An object that must be there."""
        stored = self.store.get(key)
        if stored is None:
            raise NonconformantError(f"{key} is not there right after it was written")
        return stored


class NonconformantError(AssertionError):
    """The store does not do what modeldrop needs. The message says what it did."""


class LackError(Exception):
    """The service lacks what modeldrop can do without. The message says what it does instead."""


class NotApplicableError(Exception):
    """This kind of store cannot have this promise. The message says why."""


def expect(holds: bool, what: str) -> None:  # noqa: FBT001
    """Fail with ``what`` unless it holds; unlike ``assert``, under ``python -O`` too."""
    if not holds:
        raise NonconformantError(what)


def equal(found: object, wanted: object, what: str) -> None:
    """Fail unless the two are equal. ``what``: what was looked at."""
    if found != wanted:
        raise NonconformantError(f"{what}: found {_short(found)}, wanted {_short(wanted)}")


def expect_refusal(action: Callable[[], object], what: str) -> None:
    """Fail unless ``action`` meets a conflict. ``what``: what was asked for."""
    try:
        action()
    except ConflictError:
        return
    raise NonconformantError(f"{what} was accepted")


@contextlib.contextmanager
def scratch_model(store: Store) -> Iterator[ScratchModel]:
    """A new scratch model; all of it is removed at the end."""
    model = f"{PREFIX}{secrets.token_hex(6)}"
    with tempfile.TemporaryDirectory(prefix="modeldrop-") as folder:
        try:
            yield ScratchModel(store, model, Path(folder))
        except BaseException:
            with contextlib.suppress(ModeldropError):  # what failed first is what counts
                _clean(store, model)
            raise
        _clean(store, model)


def together(actions: list[Callable[[], object]]) -> list[BaseException | None]:
    """Run all actions, as many at once as there are up to 16; what each of them raised."""

    def run(action: Callable[[], object]) -> BaseException | None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  the caller looks at it
            return error
        return None

    with ThreadPoolExecutor(_THREADS, "modeldrop-conformance") as pool:
        return list(pool.map(run, actions))


def _clean(store: Store, model: str) -> None:
    keys = [listed.key for listed in store.objects(model)]
    if "://" not in store.url:
        shutil.rmtree(Path(store.url) / model, ignore_errors=True)  # with the folder's own bookkeeping
        return
    with contextlib.suppress(ModeldropError):  # where they may not be listed, the check of uploads says so
        for unfinished in store.unfinished(model):
            store.abort(unfinished)
    for error in together([lambda key=key: store.delete(key) for key in keys]):  # type: ignore[misc]
        if error is not None:
            raise error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
