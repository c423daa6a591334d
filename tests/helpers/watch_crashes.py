"""``modeldrop watch --exec`` killed at every step: before each change of the disk, and in each of its hooks.

After each kill the channel stays, goes back or moves on; then a watch that nobody disturbs must end with every hook's
last word, the link and the channel saying the same. Each watch is the real command in a fork of a process that has
imported everything.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.helpers.crash_injection import Child, kill_before
from tests.helpers.time_limits import lift_limits
from tests.helpers.unsynced import wait_for_no_disk
from tests.helpers.waiting import wait_for_end, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOKS = ("1", "2", "3")
_START = "import sys, tests.helpers.watch_crashes; tests.helpers.watch_crashes.main(*sys.argv[1:])"
# Notes what it is told; kills the watch before or after that, once; refuses what it is told to refuse.
_HOOK = """#!/bin/sh
cd "$(dirname "$0")" || exit 9
dies() {
    if [ "$(cat kill 2>/dev/null)" = "$1 $2 $MODELDROP_VERSION" ]; then
        rm kill
        echo $$ > killer
        kill "-$(cat signal)" "$PPID"
        while kill -0 "$PPID"; do sleep 0.02; done
        exit 9
    fi
}
dies before "$1"
echo "$MODELDROP_VERSION" >> "told-$1"
dies after "$1"
[ ! -e "refuse-$1-$MODELDROP_VERSION" ]
"""


class Kill(NamedTuple):
    """When a watch is killed: before a change of the disk, or in a hook, which is told of a version."""

    number: signal.Signals
    step: int = 0
    hook: str = ""
    when: str = ""
    version: str = ""

    def __str__(self) -> str:
        where = f"before change {self.step}" if self.step else f"{self.when} hook {self.hook} is told {self.version}"
        return f"{self.number.name} {where}"


def run_crashes(reference: str, home: Path, scratch: Path, refuse: str, first: int, stride: int, each: str) -> Any:
    """Kill watches of a home that was told of v1, whose channel names v2.

    Args:
        reference: what to watch.
        home: the folder to copy for each kill.
        scratch: where to.
        refuse: the hook that never takes v2, "" for none.
        first: the change of the disk before which the first watch is killed; 0 kills them in their hooks.
        stride: how many changes later the next is.
        each: ``all`` where each is killed by every signal and with every fate of the channel, else one after the other.

    Returns:
        How many kills there were, and all that was wrong.
    """
    from tests.helpers.builds import run_python

    return json.loads(run_python(_START, reference, home, scratch, refuse, first, stride, each))


def main(reference: str, home: str, scratch: str, refuse: str, first: str, stride: str, each: str) -> None:
    """Print what was found, as JSON."""
    import modeldrop.commands.watch
    import modeldrop.fetcher.download.download
    import modeldrop.storage.read.obstore_client  # noqa: F401

    wait_for_no_disk()
    lift_limits()
    wrong: list[str] = []
    count, afterwards = 0, itertools.cycle(["stays", "goes back", "moves on"])
    for kill in _before_changes(int(first), int(stride), each) if int(first) else _in_hooks(refuse, each):
        for after in ["stays", "goes back", "moves on"] if each == "all" else [next(afterwards)]:
            place = Path(scratch) / f"{count}"
            count += 1
            settled, faults = _crash(reference, Path(home), place, kill, after, refuse)
            wrong += [f"{kill}, then the channel {after}: {fault}" for fault in faults]
            shutil.rmtree(place)
        if settled and kill.number is signal.SIGKILL:
            break
    json.dump({"kills": count, "wrong": wrong}, sys.stdout)


def _before_changes(first: int, stride: int, each: str) -> Iterator[Kill]:
    signals = itertools.cycle([signal.SIGKILL, signal.SIGTERM])
    for step in itertools.count(first, stride):
        for number in [signal.SIGTERM, signal.SIGKILL] if each == "all" else [next(signals)]:
            yield Kill(number, step=step)


def _in_hooks(refuse: str, each: str) -> Iterator[Kill]:
    signals = itertools.cycle([signal.SIGKILL, signal.SIGTERM])
    hooks = [(hook, "v2") for hook in HOOKS if not refuse or hook <= refuse]
    hooks += [(hook, "v1") for hook in HOOKS if refuse and hook <= refuse]
    for (hook, version), when in itertools.product(hooks, ("before", "after")):
        for number in [signal.SIGKILL, signal.SIGTERM] if each == "all" else [next(signals)]:
            yield Kill(number, hook=hook, when=when, version=version)


def _crash(reference: str, home: Path, place: Path, kill: Kill, after: str, refuse: str) -> tuple[bool, list[str]]:
    """Whether all was told before the watch was killed, and what was wrong in the end."""
    registry = Path(reference).parent
    shutil.copytree(home, place / "home", symlinks=True)
    shutil.copytree(registry, place / "registry", symlinks=True)
    reference = f"{place / 'registry'}/{Path(reference).name}"
    # The folder says from which registry it is.
    (place / "home/embedder/.registry").write_text(f"{place / 'registry'}\n")
    (place / "hook").write_text(_HOOK)
    (place / "hook").chmod(0o755)
    if refuse:
        (place / f"refuse-{refuse}-v2").touch()
    if kill.hook:
        (place / "kill").write_text(f"{kill.when} {kill.hook} {kill.version}\n")
        (place / "signal").write_text(f"{kill.number:d}\n")
    code, settled = _watch(reference, place, kill)
    if (place / "killer").exists():
        wait_for_end(int((place / "killer").read_text()))
    faults = [] if code in {0, -signal.SIGKILL, -signal.SIGTERM} else [f"it ended with {code}"]
    if (place / "kill").exists():
        faults.append("nothing was killed")
    version = {"stays": 2, "goes back": 1, "moves on": 3}[after]
    if version != 2:
        _promote(place / "registry", version)
    code, _ = _watch(reference, place)
    if code:
        faults.append(f"the next one ended with {code}")
    expected = f"v{1 if refuse and version == 2 else version}"
    found = {f"hook {hook}": _last(place / f"told-{hook}") for hook in HOOKS}
    found["link"] = (place / "home/embedder/current").readlink().name.partition("-")[0]
    if set(found.values()) != {expected} and not (refuse and _never_begun(found, refuse, expected)):
        faults.append(f"{expected} was wanted, but {found}")
    return settled and not kill.hook, faults


def _never_begun(found: dict[str, str], refuse: str, expected: str) -> bool:
    """Whether only hooks behind the refusing one lack the word: they have heard of nothing but v1."""
    return all(said == expected or (name > f"hook {refuse}" and said == "v1") for name, said in found.items())


def _last(told: Path) -> str:
    return told.read_text().split()[-1] if told.exists() else "v1"


def _promote(registry: Path, version: int) -> None:
    from modeldrop.registry.channels import promote
    from modeldrop.storage.write.folder import FolderStore

    promote(FolderStore(str(registry)), "embedder", version, "current", by="dana")


def _watch(reference: str, place: Path, kill: Kill | None = None) -> tuple[int, bool]:
    """Watch until everything is told, or something kills it; its exit code, and whether everything was."""

    def body() -> int:
        from modeldrop.cli import main
        from modeldrop.commands import watch
        from modeldrop.config import read_duration

        # Seconds are the least that can be asked for, and too long for so many watches.
        vars(watch)["read_duration"] = lambda text, *_, **__: 0.02 if text == "1s" else read_duration(text, "")
        if kill is not None and kill.step:
            kill_before(kill.step, kill.number)
        hooks = [word for hook in HOOKS for word in ("--exec", f"{place / 'hook'} {hook}")]
        with (place / "log").open("a") as log:
            os.dup2(log.fileno(), 2)
            return main(["watch", reference, "-d", str(place / "home"), "--interval", "1s", *hooks])

    began = time.time()
    child = Child(body)

    def settled() -> bool:
        from modeldrop.fetcher.notes import read_watch_note

        note = read_watch_note(place / "home/embedder", "current")
        return note.telling is None and note.answered >= began

    def ended() -> bool:
        return os.waitid(os.P_PID, child.number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    wait_until(lambda: ended() or settled(), place)
    if not ended():
        os.kill(child.number, signal.SIGTERM)
    code, said = child.wait()
    if code == 1 or said:
        raise AssertionError((said, (place / "log").read_text()))
    return code, settled()
