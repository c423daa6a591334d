from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from modeldrop.format import keys
from modeldrop.format.channel import Channel, parse_channel
from modeldrop.format.records import BuildRecord, serialize_build_record
from modeldrop.registry.versions import claimed_numbers, read_channel, version_numbers
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import build_key, finish, make_build, publish_build, start

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WAIT = """
import sys, time
from pathlib import Path
registry, mine = Path(sys.argv[1]), sys.argv[2]

def ready():
    (registry.parent / f"ready-{mine}").touch()
    while not (registry.parent / "go").exists():
        time.sleep(0.001)
"""
PUBLISHER = f"""{WAIT}
from tests.helpers.builds import make_build, publish_folder
from modeldrop.registry.channels import move_forward
from modeldrop.registry.promotion import Asked
from modeldrop.storage.write.folder import FolderStore

store = FolderStore(str(registry))
make_build(registry.parent / mine, sys.argv[3])
ready()
published = publish_folder(store, "embedder", registry.parent / mine, adopt_seconds=float(sys.argv[4]))
asked = Asked("2026-11-20T09:40:00Z", "https://ci.example/runs/" + mine)
move_forward(store, "embedder", published.version, "current", by=mine, asked=asked)
print(published.version.number, published.how == "adopted")
"""
IMPATIENT_WITH_THE_DEAD = f"""
import modeldrop.registry.publish as publishing
recorded, deadline, dead = publishing._recorded, publishing.Deadline, False
def notice(store, key, stored):
    global dead
    dead = b"killed" in stored.data
    return recorded(store, key, stored)
publishing._recorded = notice
publishing.Deadline = lambda seconds: deadline(0.5 if dead else seconds)
{PUBLISHER}"""
MOVER = f"""{WAIT}
from modeldrop.errors import RefusedError
from modeldrop.registry.channels import promote, rollback
from modeldrop.storage.write.folder import FolderStore
store = FolderStore(str(registry))
ready()
moves = 0
for round in range(5):
    try:
        if int(mine) % 3:
            moves += promote(store, "embedder", (int(mine) + round) % 17 + 1, "current", by=mine).moved
        else:
            moves += rollback(store, "embedder", "current", by=mine).moved
    except RefusedError:
        pass
print(moves)
"""


def race(program: str, registry: Path, arguments: Iterable[tuple[object, ...]]) -> list[str]:
    """Start the same program many times, let all begin at once, return what they printed."""
    registry.parent.mkdir(exist_ok=True)
    processes = [start(program, registry, number, *more) for number, more in enumerate(arguments)]
    while len(list(registry.parent.glob("ready-*"))) < len(processes):
        assert all(process.poll() in {None, 0} for process in processes), processes[0].communicate()
    (registry.parent / "go").touch()
    return [finish(process) for process in processes]


def check_moves(registry: Path) -> Channel:
    """Every move is kept, follows the one before, and the last is what the channel says."""
    folder = registry / "embedder" / ".moves" / "current"
    written = [
        parse_channel((folder / f"{number}.json").read_bytes()) for number in range(1, len(list(folder.iterdir())) + 1)
    ]
    for earlier, later in itertools.pairwise([None, *written]):
        moves = earlier.moves() if earlier else ()
        # All of a day are kept. What moves nothing says what was wanted, and by a later run.
        assert later is not None
        assert later.moves()[1:] == moves or later.moves() == moves
        assert later.generation == len(later.moves())
        assert later.moves() != moves or later.wanted != (earlier and earlier.wanted)
    now, tag = read_channel(FolderStore(str(registry)), "embedder", "current")
    assert now == written[-1] == parse_channel((registry / "embedder" / "current").read_bytes())
    assert tag == str(len(written))
    return written[-1]


def test_eight_builds_published_at_once_are_eight_versions(registry: Path) -> None:
    printed = race(PUBLISHER, registry, [(f"seed {number}", 600) for number in range(8)])
    assert sorted(printed) == [f"{number} False" for number in range(1, 9)]
    store = FolderStore(str(registry))
    assert version_numbers(store, "embedder") == claimed_numbers(store, "embedder") == list(range(1, 9))
    channel = check_moves(registry)
    assert printed[7] == f"{channel.version} False"  # of the last run, whichever number it got
    runs = [int(move.by) for move in channel.moves()]
    assert runs == sorted(runs, reverse=True)


def test_one_recipe_published_eight_times_at_once_is_one_version(registry: Path) -> None:
    printed = race(PUBLISHER, registry, [("the same", 600)] * 8)
    (number,) = version_numbers(FolderStore(str(registry)), "embedder")
    assert sorted(printed) == [f"{number} False"] + [f"{number} True"] * 7
    assert [move.version for move in check_moves(registry).moves()] == [number]


def test_eight_publishers_that_find_a_dead_record_still_make_one_version(registry: Path) -> None:
    # Who wrote the dead record is not waited for; everybody else is, however slow the machine.
    dead = BuildRecord(999, "killed", "2026-11-20T09:44:40Z")
    FolderStore(str(registry)).create(
        keys.build_record("embedder", build_key("the same")), serialize_build_record(dead)
    )
    race(IMPATIENT_WITH_THE_DEAD, registry, [("the same", 600)] * 8)
    assert len(version_numbers(FolderStore(str(registry)), "embedder")) == 1


def test_sixteen_movers_make_one_line_of_history(registry: Path, tmp_path: Path) -> None:
    for seed in "abcdefghijklmnopq":
        publish_build(registry, seed)
    moved = sum(map(int, race(MOVER, registry, [()] * 16)))
    assert check_moves(registry).generation == 17 + moved
    # Each of v1 to v16 is asked for by somebody, and somebody must be the first to move the channel to it.
    assert moved >= 16


def test_a_build_folder_is_only_read(registry: Path, tmp_path: Path) -> None:
    make_build(tmp_path / "build")
    before = sorted(path.name for path in (tmp_path / "build").rglob("*"))
    publish_build(registry)
    assert sorted(path.name for path in (tmp_path / "build").rglob("*")) == before
