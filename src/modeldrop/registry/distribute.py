"""Publishing one build to several registries: uploaded side by side, decided by the first, the same bytes in all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from modeldrop.registry.publish import ADOPT_SECONDS, Adopt, Published, commit, stage
from modeldrop.registry.replicate import mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from modeldrop.registry.publish import Staged
    from modeldrop.storage.write.store import Store


def publish(
    stores: Sequence[Store],
    model: str,
    folder: Path,
    scratch: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    adopt_seconds: float = ADOPT_SECONDS,
) -> list[Published]:
    """Publish a finished build as the next version of every registry.

    No registry gets a version before the upload to each is complete. If another publisher of the recipe was
    first in the first registry, its version is adopted there and copied to the others; so all of them hold
    the same manifest digest, whoever publishes at the same time.

    Args:
        stores: the registries; the first decides.
        model: the model's name, the same in all.
        folder: what a build left.
        scratch: an empty folder for a version that must be copied.
        force: make a new version even where the recipe has one.
        progress: told every number of bytes uploaded.
        adopt_seconds: how long to wait for another publisher of the same recipe to finish.

    Raises:
        IntegrityError: a file changed after it was built.
        RegistryError, DiskError: a registry cannot be written; none has a new version, unless the failure
            came with the last small writes.
    """
    staged = _stage_all(stores, model, folder, progress)
    first = commit(staged[0], Adopt.NONE if force else Adopt.ANY, adopt_seconds=adopt_seconds)
    if first.adopted and first.version.digest != staged[0].digest:
        others = mirror(stores[0], model, first.version, list(stores[1:]), scratch)
    else:
        adopt = Adopt.NONE if force else Adopt.SAME
        others = [commit(other, adopt, adopt_seconds=adopt_seconds) for other in staged[1:]]
    return [first, *others]


class _CancelledError(Exception):
    """Another upload failed: this one need not go on."""


def _stage_all(stores: Sequence[Store], model: str, folder: Path, progress: Callable[[int], None]) -> list[Staged]:
    lock = threading.Lock()
    failures: list[BaseException] = []

    def advance(count: int) -> None:
        with lock:
            if failures:
                raise _CancelledError
            progress(count)

    def run(store: Store) -> Staged | None:
        try:
            return stage(store, model, folder, advance)
        except _CancelledError:
            return None
        except BaseException as error:
            failures.append(error)
            raise

    with ThreadPoolExecutor(len(stores), "modeldrop-publish") as pool:
        jobs = [pool.submit(run, store) for store in stores]
    if failures:
        raise failures[0]
    return [staged for staged in (job.result() for job in jobs) if staged is not None]
