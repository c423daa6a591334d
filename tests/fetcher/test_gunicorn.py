"""Workers of a real ``gunicorn --preload``, which has fetched and watches before it forks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.channels import promote
from modeldrop.storage.write import open_store
from tests.fetcher.crash_setup import publish_seed
from tests.helpers.builds import environment
from tests.helpers.rounds import rounds
from tests.helpers.waiting import HANG_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 4

APP = '''
"""What a preloaded app does: it has a model before its workers are forked, and follows the channel."""

import os
import pathlib

import modeldrop

REFERENCE, HOME, TOLD = (os.environ[name] for name in ("REFERENCE", "HOME_FOLDER", "TOLD"))


def note(kind, line):
    with pathlib.Path(TOLD, f"{os.getpid()}-{kind}").open("a") as file:
        file.write(f"{line}\\n")


def changed(new, old):
    note("told", new.generation)


modeldrop.fetch(REFERENCE, HOME)
watcher = modeldrop.watch(
    REFERENCE, changed, directory=HOME, interval=0.1, on_event=lambda event: note("events", event.text or event.name)
)
watcher.wait()


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
'''


class Server:
    """gunicorn, and who of it was told of what."""

    def __init__(self, registry: str, folder: Path) -> None:
        self.told = folder / "told"
        self.told.mkdir()
        (folder / "preloaded.py").write_text(APP)
        more = {"REFERENCE": f"{registry}/embedder", "HOME_FOLDER": str(folder / "home"), "TOLD": str(self.told)}
        command = [sys.executable, "-m", "gunicorn", "--preload", "-w", str(WORKERS), "--graceful-timeout", "1"]
        command += ["--timeout", "0"]  # however long a busy machine lets a worker wait, it is not replaced
        self.process = subprocess.Popen(
            [*command, "-b", f"unix:{folder}/socket", "--chdir", folder, "preloaded:app"],
            env=environment(**more),
            stderr=subprocess.PIPE,
            text=True,
        )

    def numbers(self) -> dict[str, list[int]]:
        """Which generations each process was told of."""
        return {
            path.name.partition("-")[0]: [int(line) for line in path.read_text().split()]
            for path in self.told.glob("*-told")
        }

    def watching(self) -> set[str]:
        """The workers that follow the channel."""
        names = {path.name.partition("-")[0] for path in self.told.glob("*-events")}
        return names - {str(self.process.pid)}

    def end(self) -> tuple[int, str]:
        self.process.terminate()
        errors = self.process.communicate(timeout=HANG_SECONDS)[1]
        return self.process.returncode, errors


@pytest.fixture
def gunicorn(place: str, tmp_path: Path) -> Iterator[Server]:
    for seed in "ab":
        publish_seed(place, tmp_path, seed)
    server = Server(place, tmp_path)
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.communicate()


@pytest.mark.rounds
@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_every_preloaded_worker_is_told_of_every_move(place: str, gunicorn: Server) -> None:
    store = open_store(place)
    wait_until(lambda: len(gunicorn.watching()) == WORKERS, "four workers")
    workers = gunicorn.watching()
    everybody = {*workers, str(gunicorn.process.pid)}
    moves = rounds(2, 10)
    wanted: list[int] = []
    for number in range(moves):
        move = promote(store, "embedder", 1 + number % 2, "current", by="dana")
        wanted.append(move.generation)
        wait_until(
            lambda: all(gunicorn.numbers().get(one, [])[-1:] == wanted[-1:] for one in everybody),
            gunicorn.numbers(),
        )
    told = gunicorn.numbers()
    code, errors = gunicorn.end()
    assert {worker: told[worker] for worker in workers} == dict.fromkeys(workers, wanted), errors
    assert told[str(gunicorn.process.pid)][1:] == wanted
    assert code == 0, errors
    assert "Traceback" not in errors
