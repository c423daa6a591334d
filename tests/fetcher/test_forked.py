"""Processes that are forked from one that has fetched, or that watches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from modeldrop.registry.channels import promote
from modeldrop.storage.write import open_store
from tests.fetcher.crash_setup import publish_seed
from tests.helpers.builds import run_python, start
from tests.helpers.waiting import HANG_SECONDS, wait_for_end, wait_until

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

EVERYWHERE = pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
WORKERS = 4

FORKED = """
import multiprocessing, os, sys, time
import modeldrop
from modeldrop.errors import ModeldropError
reference, home = sys.argv[1:3]

def in_child(work):
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with open(read) as answer:
            said = answer.read()
        assert os.waitpid(child, 0)[1] == 0, said
        return said
    os.close(read)
    with open(write, "w") as answer:
        try:
            answer.write(str(work()))
        except ModeldropError as error:
            answer.write(f"{type(error).__name__}: {error.message}")
    os._exit(0)
"""


@EVERYWHERE
def test_a_forked_child_fetches(place: str, tmp_path: Path) -> None:
    publish_seed(place, tmp_path, "a")
    program = """
def fetch(number):
    told = []
    snapshot = modeldrop.fetch(reference, f"{home}-{number}", progress=lambda done, total: told.append((done, total)))
    again = modeldrop.fetch(reference, f"{home}-{number}")
    assert told[-1][0] == told[-1][1] == snapshot.downloaded > again.downloaded == 0, told
    return snapshot.version

assert fetch("parent") == 1
assert in_child(lambda: fetch("child")) == "1"
assert in_child(lambda: in_child(lambda: (fetch("grandchild"), in_child(lambda: fetch("fourth"))))) == "(1, '1')"
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(fetch, range(2)) == [1, 1]
assert fetch("parent again") == 1
print("done")
"""
    assert run_python(FORKED + program, f"{place}/embedder", tmp_path / "home").strip() == "done"


def test_a_forked_child_is_told_what_its_parent_would_be(s3: S3Server, tmp_path: Path) -> None:
    registry = s3.registry()
    publish_seed(registry, tmp_path, "a")
    s3.rule("answer", method="GET", match="model_quantized", status=200, body="damaged", times=1000)
    program = """
def refused(reference):
    try:
        modeldrop.fetch(reference, f"{home}-{os.getpid()}")
    except ModeldropError as error:
        return f"{type(error).__name__} {error.exit_code}: {error}"

for bad in (f"{reference}@v7", f"{reference}@nothing", f"{reference}@v1"):
    here = refused(bad)
    assert here, bad
    assert in_child(lambda: refused(bad)) == here, here
    print(here.partition(" ")[0])
"""
    said = run_python(FORKED + program, f"{registry}/embedder", tmp_path / "home").split()
    assert said == ["NotFoundError", "NotFoundError", "IntegrityError"]


def test_a_time_limit_holds_in_a_forked_child(s3: S3Server, tmp_path: Path) -> None:
    registry = s3.registry()
    publish_seed(registry, tmp_path, "a")
    s3.rule("silent", match="onnx", times=1000)
    program = """
try:
    modeldrop.fetch(reference + "@nothing", home)
except ModeldropError:
    print(in_child(lambda: modeldrop.fetch(reference, home, timeout=2)))
"""
    said = run_python(FORKED + program, f"{registry}/embedder", tmp_path / "home")
    assert said.startswith("RegistryError: The time limit of 2 s is over, waiting for"), said


def test_a_helper_ends_with_the_child_that_it_works_for(s3: S3Server, tmp_path: Path) -> None:
    registry = s3.registry()
    publish_seed(registry, tmp_path, "a")
    s3.rule("silent", match="onnx", times=1000)
    program = """
try:
    modeldrop.fetch(reference + "@nothing", home)
except ModeldropError:
    pass
from modeldrop.fetcher.helper import HelperReader
begin = HelperReader._start

def started(self):
    process = begin(self)
    if not os.fork():
        time.sleep(1000)  # who is forked meanwhile keeps nothing open
    return process

HelperReader._start = started
child = os.fork()
if not child:
    modeldrop.fetch(reference, home)
print(child, flush=True)
os.waitpid(child, 0)
"""
    parent = start(FORKED + program, f"{registry}/embedder", tmp_path / "home")
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    helpers = wait_until(lambda: [one for one in child.children() if "helper_program" in " ".join(one.cmdline())])
    wait_until(lambda: any("onnx" in request.path for request in s3.requests()), "the download to begin")
    child.kill()
    parent.kill()
    wait_for_end(helpers[0].pid)
    for left in psutil.process_iter(["cmdline"]):
        if str(tmp_path / "home") in (left.info["cmdline"] or []):
            left.kill()
    parent.communicate()


def test_a_child_that_can_have_no_helper_is_told_so_at_once(s3: S3Server, tmp_path: Path) -> None:
    registry = s3.registry()
    publish_seed(registry, tmp_path, "a")
    program = """
modeldrop.fetch(reference, home)
sys.executable = "/usr/bin/uwsgi"
print(in_child(lambda: modeldrop.fetch(reference, home)))
print(in_child(lambda: modeldrop.fetch(reference + "@v1", home).version))
"""
    refused, found = run_python(FORKED + program, f"{registry}/embedder", tmp_path / "home").splitlines()
    assert refused.startswith("UsageError: s3://")
    assert "/usr/bin/uwsgi is no Python" in refused
    assert found == "1"


@pytest.mark.parametrize("lines", [1, 2])
def test_a_helper_that_ends_before_it_is_asked_is_told_of(lines: int, s3: S3Server, tmp_path: Path) -> None:
    registry = s3.registry()
    publish_seed(registry, tmp_path, "a")
    ends = tmp_path / "python-that-ends"
    ends.write_text("#!/bin/sh\nexit 7\n" if lines == 1 else "#!/bin/sh\nread registry\nexit 7\n")
    ends.chmod(0o755)
    program = f"""
modeldrop.fetch(reference + "@v1", home)
from modeldrop.fetcher import helper
write_line, written = helper._write_line, []

def write_late(process, value):
    written.append(value)
    if len(written) == {lines}:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    write_line(process, value)

helper._write_line = write_late
python, sys.executable = sys.executable, {str(ends)!r}

def fetch_twice():
    try:
        modeldrop.fetch(reference, home + "-other")
    except ModeldropError as error:
        sys.executable = python
        return f"{{error.message}} {{modeldrop.fetch(reference, home + '-other').version}}"

print(in_child(fetch_twice))
"""
    told = run_python(FORKED + program, f"{registry}/embedder", tmp_path / "home").strip()
    assert told == f"The process that reads {registry} for this forked child ended with code 7. 1"


def test_whoever_uses_obstore_before_the_fork_is_found_out(s3: S3Server, tmp_path: Path) -> None:
    registry = s3.registry()
    publish_seed(registry, tmp_path, "a")
    program = """
import obstore
from obstore.store import MemoryStore
obstore.put(MemoryStore(), "a", b"b")
print(in_child(lambda: modeldrop.fetch(reference, home).version))
"""
    assert run_python(FORKED + program, f"{registry}/embedder", tmp_path / "home").strip() == "1"


WATCHED = (
    FORKED
    + """
folder = home + "-told"
os.makedirs(folder)

def note(name, line):
    with open(f"{folder}/{os.getpid()}-{name}", "a") as file:
        file.write(f"{line}\\n")

watcher = modeldrop.watch(
    reference,
    lambda new, old: note("told", f"{old and old.version} {new.version}"),
    directory=home,
    interval=0.05,
    on_event=lambda event: note("events", event.name),
)
assert watcher.wait().version == 1
"""
)


@EVERYWHERE
def test_a_watch_goes_on_in_forked_children(place: str, tmp_path: Path) -> None:
    publish_seed(place, tmp_path, "a")
    publish_seed(place, tmp_path, "b")
    promote(open_store(place), "embedder", 1, "current", by="dana")
    program = """
children = []
for _ in range(2):
    children.append(os.fork())
    if not children[-1]:
        assert watcher.snapshot.version == 1
        assert watcher.status().running
        while watcher.snapshot.version == 1:
            time.sleep(0.01)
        assert watcher.stop(300)
        assert not watcher.status().running
        os._exit(0)
print(*children, flush=True)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
assert watcher.status().running
print("done")
"""
    parent = start(WATCHED + program, f"{place}/embedder", tmp_path / "home")
    assert parent.stdout is not None
    children = parent.stdout.readline().split()
    promote(open_store(place), "embedder", 2, "current", by="dana")
    said, errors = parent.communicate(timeout=HANG_SECONDS)
    assert (said, parent.returncode) == ("done\n", 0), errors
    for child in children:
        assert (tmp_path / f"home-told/{child}-told").read_text() == "1 2\n"


def test_who_has_imported_obstore_before_can_fetch(s3: S3Server, tmp_path: Path) -> None:
    place = s3.registry()
    publish_seed(place, tmp_path, "a")
    for _ in range(5):  # its threads name themselves, at some moment
        program = "import sys, obstore, modeldrop; modeldrop.fetch(*sys.argv[1:]); print('done')"
        assert run_python(program, f"{place}/embedder", tmp_path / "home") == "done"


def test_obstore_is_given_half_the_cpus(s3: S3Server, tmp_path: Path) -> None:
    place = s3.registry()
    publish_seed(place, tmp_path, "a")
    program = """
import contextlib, os, sys, time, modeldrop
os.sched_getaffinity = lambda _: range(6)
modeldrop.fetch(*sys.argv[1:])
while True:
    tokios = others = 0
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as comm:  # it may end meanwhile
            named = comm.read().startswith("tokio")
            tokios, others = tokios + named, others + (not named)
    if others == 1:  # this one: every other thread has named itself, or ended
        break
    time.sleep(0.01)
print(tokios)
"""
    assert int(run_python(program, f"{place}/embedder", tmp_path / "home")) == 3


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_child_of_multiprocessing_watches_only_if_it_asks(place: str, tmp_path: Path) -> None:
    publish_seed(place, tmp_path, "a")
    publish_seed(place, tmp_path, "b")
    promote(open_store(place), "embedder", 1, "current", by="dana")
    program = """
forking = multiprocessing.get_context("fork")
moved, asked = forking.Event(), forking.Event()

def compute():
    asked.wait()
    assert moved.wait()
    note("told", "asks")
    while watcher.snapshot.version == 1:
        time.sleep(0.01)
    assert watcher.stop(300)

child = forking.Process(target=compute)
child.start()
print(child.pid, flush=True)
while watcher.snapshot.version == 1:
    time.sleep(0.01)
for _ in range(20):  # looks of the parent, and nobody else's
    time.sleep(0.05)
moved.set()
asked.set()
child.join()
assert child.exitcode == 0
print("done")
"""
    parent = start(WATCHED + program, f"{place}/embedder", tmp_path / "home")
    assert parent.stdout is not None
    child = parent.stdout.readline().strip()
    promote(open_store(place), "embedder", 2, "current", by="dana")
    said, errors = parent.communicate(timeout=HANG_SECONDS)
    assert (said, parent.returncode) == ("done\n", 0), errors
    assert (tmp_path / f"home-told/{child}-told").read_text() == "asks\n1 2\n"


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_watch_that_does_not_go_on_says_so(place: str, tmp_path: Path) -> None:
    publish_seed(place, tmp_path, "a")
    program = """
forked = []

def forks(new, old):
    child = os.fork()
    if not child:
        forked_watchers = (own, other)
        assert not any(one.status().running for one in forked_watchers if one is not own)
        os._exit(0 if own not in sys.modules["modeldrop.fetcher.watch.watcher"]._running else 1)
    forked.append(os.waitpid(child, 0)[1])

other = modeldrop.watch(reference, print, directory=home, interval=0.05, in_children=False)
assert other.wait().version == 1
assert in_child(lambda: other.status().running) == "False"
assert in_child(lambda: other.snapshot.version) == "1"
watcher.stop()
assert in_child(lambda: watcher.status().running) == "False"
ready = []
own = None

def begin(new, old):
    while own is None:
        time.sleep(0.01)
    forks(new, old)

own = modeldrop.watch(reference, begin, directory=home, interval=0.05)
assert own.wait().version == 1
assert forked == [0], forked
"""
    run_python(WATCHED + program, f"{place}/embedder", tmp_path / "home")


@EVERYWHERE
def test_the_thread_of_a_watch_imports_nothing(place: str, tmp_path: Path) -> None:
    publish_seed(place, tmp_path, "a")
    publish_seed(place, tmp_path, "b")
    promote(open_store(place), "embedder", 1, "current", by="dana")
    program = """
from modeldrop.fetcher.watch.watcher import Watcher
begin, before = Watcher.start, set()

def start(self):
    before.update(sys.modules)
    return begin(self)

Watcher.start = start
watcher = modeldrop.watch(reference, lambda new, old: None, directory=home, interval=0.05)
assert watcher.wait().version == 1
print("waits", flush=True)
while watcher.snapshot.version == 1:
    time.sleep(0.01)
print(*sorted(set(sys.modules) - before))
"""
    parent = start(FORKED + program, f"{place}/embedder", tmp_path / "home")
    assert parent.stdout is not None
    parent.stdout.readline()
    promote(open_store(place), "embedder", 2, "current", by="dana")
    said, errors = parent.communicate(timeout=HANG_SECONDS)
    assert (said, parent.returncode) == ("\n", 0), errors


def test_a_forked_child_keeps_no_lock_of_its_parent(tmp_path: Path) -> None:
    program = """
import pathlib
from modeldrop.fetcher.leases import InUse, user_of
from modeldrop.util.locks import try_lock
folder = pathlib.Path(home)
folder.mkdir()
lock, use = try_lock(folder / "lock"), InUse.take(folder)
read, write = os.pipe()
child = os.fork()
if not child:
    os.write(write, b"forked")
    time.sleep(1000)
os.read(read, 6)
assert try_lock(folder / "lock") is None
os.close(lock.descriptor)  # as when it is killed: nothing is tidied up
use.release()
again = try_lock(folder / "lock")
free = user_of(folder, time.time())
os.kill(child, 9)
assert again is not None
assert not free, free
"""
    run_python(FORKED + program, "reference", tmp_path / "home")
