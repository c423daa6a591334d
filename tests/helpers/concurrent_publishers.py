"""Many processes that do the same thing to one registry at the same moment.

``python -m tests.helpers.concurrent_publishers BODY COUNT REGISTRY FOLDER ARGUMENTS…`` imports everything once
and forks, so that sixteen publishers do not load sixteen SDKs. What every body returns is printed as one JSON list.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.errors import ConflictError, NotFoundError, RefusedError
from modeldrop.registry.channels import move_forward, promote, rollback, unretire
from modeldrop.registry.promotion import Asked
from modeldrop.registry.provenance import now
from modeldrop.registry.prune import PruneRules, prune
from modeldrop.registry.publish import ADOPTED
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_folder, run_python
from tests.helpers.time_limits import lift_limits_of_publishers
from tests.helpers.unsynced import wait_for_no_disk
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Barrier

    from modeldrop.format.manifest import File
    from modeldrop.storage.write.store import Store

_START = "import sys, tests.helpers.concurrent_publishers; tests.helpers.concurrent_publishers.main(*sys.argv[1:])"


def race(body: Callable[..., Any], count: int, registry: str, folder: Path, *arguments: object) -> list[Any]:
    """Run ``body`` in ``count`` processes that begin together; return what each returned."""
    return list(json.loads(run_python(_START, body.__name__, count, registry, folder, *arguments)))


def publish_one(number: int, registry: str, folder: Path, ready: Callable[[], object], seed: str) -> list[Any]:
    """Publish a build (``seed`` may hold ``{}``, the process's number), and have ``current`` name it as that run."""
    build = folder / f"build-{number}"
    make_build(build, seed.format(number))
    store = open_store(registry)
    store.names("")  # signed in and connected
    ready()
    published = publish_folder(store, "embedder", build, adopt_seconds=600)
    asked = Asked(now(), f"https://ci.example/runs/{number}")
    moved = move_forward(store, "embedder", published.version, "current", by=str(number), asked=asked)
    return [published.version.number, published.how == ADOPTED, moved.moved]


def move_one(number: int, registry: str, folder: Path, ready: Callable[[], object], rounds: str) -> int:
    """Promote, or every third time roll back; return how often the channel moved."""
    store = open_store(registry)
    store.names("")
    ready()
    moves = 0
    for round_ in range(int(rounds)):
        try:
            if (number + round_) % 3:
                moves += promote(store, "embedder", (number + round_) % 4 + 1, "current", by=str(number)).moved
            else:
                moves += rollback(store, "embedder", "current", by=str(number)).moved
        except RefusedError:
            pass
    return moves


def publish_promote_or_prune(number: int, registry: str, folder: Path, ready: Callable[[], object]) -> list[Any]:
    """Do one of the three, by the process's number; return which was done, and to which version."""
    store = open_store(registry)
    build, old = folder / f"build-{number}", number % 2 + 1
    if number % 3 == 0:
        make_build(build, "a" if number < 6 else f"new {number}")
    store.names("")
    ready()
    if number % 3 == 0:
        version = publish_folder(store, "embedder", build, adopt_seconds=600).version
        move_forward(store, "embedder", version, "current", by=str(number))
        return ["published", version.number]
    if number % 3 == 1:
        try:
            if number > 6:
                unretire(store, "embedder", old)
            return ["promoted", promote(store, "embedder", old, f"to-{number}", by=str(number)).after]
        except (NotFoundError, RefusedError):
            return ["refused", old]
    for _ in range(3):
        prune(store, "embedder", PruneRules(keep=1, older_than=0), now=time.time(), apply=True, by=str(number))
    return ["pruned", None]


def promote_one(number: int, registry: str, folder: Path, ready: Callable[[], object], versions: str) -> bool:
    """Promote one of so many versions; return whether the channel moved."""
    store = open_store(registry)
    store.names("")
    ready()
    return promote(store, "embedder", number % int(versions) + 1, "current", by=str(number)).moved


class Stepping:
    """A store that sends this process a signal at the ``step``-th moment: before and after every write."""

    def __init__(self, store: Store, step: int, kind: signal.Signals) -> None:
        self._store = store
        self._left = step
        self._signal = kind
        self.url = store.url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes) -> None:
        self._moment()
        self._store.create(key, data)
        self._moment()

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        self._moment()
        self._store.swap(key, data, previous)
        self._moment()

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        self._moment()
        self._store.upload(key, path, file, piece_size, progress)
        self._moment()

    def _moment(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)


def interrupted(number: int, registry: str, folder: Path, ready: Callable[[], object], steps: str, kind: str) -> Any:
    """Publish the build ``seed number``; be killed or stopped at the step that is the number-th of ``steps``."""
    step = int(steps.split(",")[number])
    build = folder / f"build-{step}"
    make_build(build, f"seed {step}")
    store: Any = Stepping(open_store(registry), step, signal.Signals[kind])
    asked = Asked("2026-01-01T00:00:00Z")
    ready()
    try:
        published = publish_folder(store, f"model-{step}", build, adopt_seconds=1)
        moved = move_forward(store, f"model-{step}", published.version, "current", by="late", asked=asked)
    except ConflictError as error:
        return str(error)
    return [published.version.number, published.how == ADOPTED, moved.moved]


def main(body: str, count: str, registry: str, folder: str, *arguments: str) -> None:
    """Fork, let all begin together, print what they returned (None for one that was killed)."""
    wait_for_no_disk()
    lift_limits_of_publishers(registry)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(int(count))
    children = []
    for number in range(int(count)):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(
            target=_child, args=(sender, barrier, globals()[body], number, registry, Path(folder), *arguments)
        )
        child.start()
        sender.close()
        children.append((child, receiver))
    results = []
    for child, receiver in children:
        try:
            results.append(receiver.recv())
        except EOFError:
            results.append(None)
        child.join()
    failed = [result for result in results if isinstance(result, str) and result.startswith("Traceback")]
    if failed:
        sys.exit(failed[0])
    json.dump(results, sys.stdout)


def _child(sender: Any, barrier: Barrier, body: Callable[..., Any], *arguments: Any) -> None:
    import traceback

    number, registry, folder, *rest = arguments
    try:
        sender.send(body(number, registry, folder, lambda: barrier.wait(HANG_SECONDS), *rest))
    except BaseException:  # noqa: BLE001  the parent prints it
        sender.send(traceback.format_exc())
