"""Dying by SIGKILL right before or right after a chosen system call, or at a chosen moment.

``run_forks`` starts a process that imports everything once and then forks, so that hundreds of fetches can be killed
in seconds. What each fork must not have done before is to talk to a registry.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers.time_limits import lift_limits
from tests.helpers.unsynced import wait_for_no_disk
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES = (
    "open", "pwrite", "pwritev", "write", "ftruncate", "posix_fallocate", "copy_file_range",
    "rename", "replace", "link", "symlink", "mkdir", "unlink", "rmdir", "remove",
    "chmod", "fchmod", "utime", "fsync",
)  # fmt: skip
"""What changes a disk, by its name in ``os``; ``open`` where it may make a file."""
_START = "import sys, tests.helpers.crash_injection; tests.helpers.crash_injection.main(*sys.argv[1:])"


def kill_at(step: int, *names: str) -> None:
    """Kill this process at the ``step``-th moment, counting one before and one after each call of ``os.<name>``."""
    moments = 0

    def moment() -> None:
        nonlocal moments
        moments += 1
        if moments == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            moment()
            result = call(*arguments, **options)
            moment()
            return result

        return stepped

    for name in names:
        setattr(os, name, deadly(getattr(os, name)))


def kill_before(step: int, number: int = signal.SIGKILL) -> None:
    """Kill this process right before its ``step``-th call that changes the disk, in whichever thread that is."""
    calls = 0
    lock = threading.Lock()

    def deadly(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            if name != "open" or arguments[1] & os.O_CREAT:
                with lock:
                    calls += 1
                    now = calls == step
                if now:  # without the lock: a handler of the signal may write
                    os.kill(os.getpid(), number)
            return call(*arguments, **options)

        return counted

    for name in CHANGES:
        if hasattr(os, name):
            setattr(os, name, deadly(name, getattr(os, name)))


def run_forks(body: Callable[..., Any], *arguments: object) -> Any:
    """Run ``body``, a function of this module, in a process that may fork; return what it returned."""
    from tests.helpers.builds import run_python

    return json.loads(run_python(_START, body.__name__, *arguments))


def crash_at_every_step(reference: str, template: str, scratch: str, stride: str) -> dict[str, Any]:
    """Fetch into copies of the home ``template``, killed before each ``stride``-th call that changes the disk.

    Returns:
        How many steps there were, what stood after each, and all that was wrong.
    """
    wrong, seen = [], []
    step = 1 - int(stride)
    while True:
        step += int(stride)
        home = Path(scratch) / str(step)
        shutil.copytree(template, home, symlinks=True)
        code, said = _fetch(reference, home, step=step)
        seen.append(_state(home))
        wrong += [f"step {step}: {fault}" for fault in _faults(home)]
        if code == 0:
            return {"steps": step - 1, "seen": seen, "wrong": wrong}
        if code != -signal.SIGKILL:
            wrong.append(f"step {step}: {said}")
        wrong += _again(reference, home, f"after step {step}")
        shutil.rmtree(home)


def crash_at_random(reference: str, template: str, scratch: str, kills: str, seed: str) -> dict[str, Any]:
    """Fetch into copies of the home ``template``, killed ``kills`` times at a random moment.

    The same copy is used until a fetch gets through, so that crashes pile up.
    """
    chance = random.Random(seed)
    home = Path(scratch) / "timed"
    shutil.copytree(template, home, symlinks=True)
    began = time.monotonic()
    assert _fetch(reference, home)[0] == 0
    longest = time.monotonic() - began
    wrong, seen = [], []
    home = Path(scratch) / "0"
    shutil.copytree(template, home, symlinks=True)
    for number in range(1, int(kills) + 1):
        code, said = _fetch(reference, home, kill_after=chance.uniform(0, longest))
        seen.append(_state(home))
        wrong += [f"kill {number}: {fault}" for fault in _faults(home)]
        if code not in {0, -signal.SIGKILL}:
            wrong.append(f"kill {number}: {said}")
        if code == 0 or number % 5 == 0:
            wrong += _again(reference, home, f"after kill {number}")
            shutil.rmtree(home)
            home = Path(scratch) / str(number)
            shutil.copytree(template, home, symlinks=True)
    return {"steps": len(seen), "seen": seen, "wrong": wrong}


def crash_at_every_step_of_deltas(*arguments: str) -> dict[str, Any]:
    """``crash_at_every_step``, where files of a few pieces are large."""
    _count_small_files()
    return crash_at_every_step(*arguments)


def crash_at_random_in_deltas(*arguments: str) -> dict[str, Any]:
    """``crash_at_random``, where files of a few pieces are large."""
    _count_small_files()
    return crash_at_random(*arguments)


def _count_small_files() -> None:
    from modeldrop.fetcher.download import deltas

    vars(deltas)["MIN_FILE"] = 1


def fetch_together(reference: str, home: str, count: str, locks: str, stuck: str, lead: str = "0") -> list[Any]:
    """Fetch in ``count`` processes that begin together.

    Args:
        reference: what.
        home: where to.
        count: how many.
        locks: ``work`` or ``dead``, where every flock succeeds and excludes nobody.
        stuck: seconds after which a process that does nothing is overtaken.
        lead: ``1`` where the others begin once the folder of the first one can be seen, and it goes on with its work
            once each of them has found that it has to wait.
    """
    _preload()
    from modeldrop.fetcher.download import staging

    staging.STUCK_SECONDS = float(stuck)
    if locks == "dead":
        fcntl.flock = lambda *_: None
    ready, go, lead_go, waiting = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    children = []
    for number in range(int(count)):

        def body(start: tuple[int, int] = go if number else lead_go) -> Any:
            from modeldrop.fetcher.fetch import fetch

            os.write(ready[1], b".")
            os.close(go[1])
            os.close(lead_go[1])
            if lead == "1" and start is lead_go:
                os.close(waiting[1])
                _hold_claim(int(count) - 1, waiting[0])
            elif lead == "1":
                _tell_of_waiting(waiting[1])
            os.read(start[0], 1)
            snapshot = fetch(reference, home)
            assert snapshot.warnings == ()
            return [str(snapshot.path), snapshot.figures.fetched, snapshot.figures.adopted]

        children.append(Child(body))
    for _ in children:
        os.read(ready[0], 1)
    os.close(waiting[1])
    os.close(lead_go[1])
    if lead == "1":
        wait_until(lambda: any(Path(home, "embedder").glob(".partial/*/*/")))
    os.close(go[1])
    return [child.wait() for child in children]


def _hold_claim(count: int, waiting: int) -> None:
    """Let this process do nothing with its first claim until ``count`` others wait for it."""
    from modeldrop.fetcher.download import staging

    claim = staging._claim

    def held(*arguments: Any, **options: Any) -> staging.StagingClaim | None:
        made = claim(*arguments, **options)
        if made is not None:
            for _ in range(count):
                assert os.read(waiting, 1), "somebody ended without having waited"
        return made

    staging._claim = held


def _tell_of_waiting(waiting: int) -> None:
    """Let this process write a byte when it waits for a claim for the first time."""
    from modeldrop.fetcher.download import staging

    jittered = vars(staging)["jittered"]
    told = False

    def telling(seconds: float) -> float:
        nonlocal told
        if not told:
            told = True
            os.write(waiting, b".")
        return float(jittered(seconds))

    vars(staging)["jittered"] = telling


class Child:
    """A fork that runs ``body`` and hands back what it returned, as JSON, or its traceback."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self._pipe, writing = os.pipe()
        exit_now = os._exit
        self.number = os.fork()
        if self.number:
            os.close(writing)
            return
        code, answer = 1, None
        try:
            os.close(self._pipe)
            answer, code = body(), 0
        except BaseException:  # noqa: BLE001  the parent shows it
            answer = traceback.format_exc()
        finally:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(json.dumps(answer).encode())
            exit_now(code)

    def kill(self) -> None:
        os.kill(self.number, signal.SIGKILL)

    def wait(self) -> tuple[int, Any]:
        """Its exit code, negative for a signal, and what it said."""
        with os.fdopen(self._pipe, "rb") as pipe:
            said = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1]), json.loads(said) if said else None


def _preload() -> None:
    """Import what a fetch needs."""
    import concurrent.futures.thread  # noqa: F401
    import shutil  # noqa: F401

    import modeldrop.fetcher.download.download
    import modeldrop.fetcher.eviction
    import modeldrop.fetcher.fetch
    import modeldrop.fetcher.verify
    import modeldrop.format.deltas
    import modeldrop.storage.read.obstore_client  # noqa: F401


def _fetch(reference: str, home: Path, *, step: int = 0, kill_after: float | None = None) -> tuple[int, Any]:
    _preload()

    def body() -> Any:
        from modeldrop.fetcher.download import pieces, staging, transfer
        from modeldrop.fetcher.fetch import fetch

        lift_limits()
        if step:
            # The steps are the same each time, however a busy machine hands the bytes over, and however slowly.
            staging._TOUCH_SECONDS = math.inf
            pieces._KEEP_SECONDS = math.inf
            transfer.LIMITS = transfer.LIMITS._replace(first_chunk=transfer.LIMITS.chunk)
            kill_before(step)
        return str(fetch(reference, home).path)

    child = Child(body)
    if kill_after is not None:
        time.sleep(kill_after)
        child.kill()
    return child.wait()


def _again(reference: str, home: Path, when: str) -> list[str]:
    """What is wrong with a fetch that nobody kills."""
    code, said = _fetch(reference, home)
    faults = [f"{when}: {fault}" for fault in _faults(home)]
    if code:
        return [*faults, f"{when}: {said}"]
    if (home / "embedder/current").resolve() != Path(said):
        faults.append(f"{when}: current is {_state(home)}, not {said}")
    left = [str(path.relative_to(home)) for path in home.glob("embedder/.partial/*-*/*/")]
    return [*faults, f"{when}: {left} are left"] if left else faults


def _state(home: Path) -> str:
    """What ``current`` names, without the digest; "" for nothing."""
    link = home / "embedder/current"
    return link.readlink().name.rpartition("-")[0] if link.is_symlink() else ""


def _faults(home: Path) -> list[str]:
    """What is wrong with the snapshots under their final names, and with the link."""
    from modeldrop.fetcher.home import find_snapshots
    from modeldrop.fetcher.verify import find_damage

    faults = []
    link = home / "embedder/current"
    if link.is_symlink() and not link.is_dir():
        faults.append(f"current leads to {link.readlink()}, which is not there")
    for snapshot in find_snapshots(home / "embedder"):
        folder, name = snapshot.path, snapshot.path.name
        faults += find_damage(snapshot, read_files=True)
        variant = snapshot.manifest.variant(snapshot.variant)
        assert variant is not None
        there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}
        if set(there) != {*variant.files, "manifest.json"}:
            faults.append(f"{name} holds {sorted(there)}")
        faults += [
            f"{path} is {path.stat().st_mode:o}" for path in there.values() if path.stat().st_mode & 0o777 != 0o444
        ]
    return faults


def main(body: str, *arguments: str) -> None:
    """Run a function of this module and print what it returned."""
    wait_for_no_disk()
    json.dump(globals()[body](*arguments), sys.stdout)
