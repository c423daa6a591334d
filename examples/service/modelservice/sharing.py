"""Graphs as onnxruntime rearranges them for this CPU, on the disk once for all processes of the machine.

onnxruntime copies most weights when it opens a graph, into the order in which this CPU multiplies fastest: every
process has such copies of its own, even where the weights themselves lie in a file that all map. So the first process
that opens a model writes what onnxruntime made of it into a folder beside the snapshots; it and all others map that.

Not every kernel of onnxruntime reads what it wrote (of 4-bit products 1.31 does not): a copy is used only after it has
answered as the graph itself does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnxruntime

from .graphs import write_prepared

PREPARED_FOLDER = ".prepared"
"""Below the home: no model is called so."""
_SNAPSHOT, _REFUSED = "snapshot", "refused"
_ONNX = ".onnx"
_log = logging.getLogger("modelservice")

Paths = Mapping[str, Path]
"""Graphs, by their role."""


class _NotSharedError(Exception):
    """A copy cannot be made, or is not what it should be; the message says why."""


def prepared(snapshot: Path, graphs: Paths, proves: Callable[[Paths], bool]) -> Paths:
    """The graphs to open: copies that are prepared for this CPU, else those of the snapshot.

    One process makes them, the others wait for it. What cannot be written, or answers differently, is done without.

    Args:
        snapshot: the folder of a finished snapshot, in a home.
        graphs: its graphs.
        proves: opens copies, and says whether they answer as the graphs do.
    """
    if any(path.suffix != _ONNX for path in graphs.values()):
        return graphs
    folder = snapshot.parent.parent / PREPARED_FOLDER
    target = folder / f"{snapshot.parent.name}-{snapshot.name}-{_machine()}"
    copies = {role: target / f"{role}{_ONNX}" for role in graphs}
    try:
        if not target.is_dir():
            folder.mkdir(exist_ok=True)
            with _turn(folder / f".{target.name}.lock"):
                if not target.is_dir():
                    _sweep(folder)
                    _make(snapshot, graphs, target, proves)
    except OSError as error:
        _log.warning("%s is not shared: %s", snapshot.name, error)
        return graphs
    return graphs if (target / _REFUSED).exists() else copies


def _make(snapshot: Path, graphs: Paths, target: Path, proves: Callable[[Paths], bool]) -> None:
    """Write copies, and let them appear when they are complete, on the disk and proven."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        (made / _SNAPSHOT).write_text(str(snapshot), "utf-8")
        try:
            _write_proven(graphs, made, proves)
        except _NotSharedError as error:
            _log.warning("%s is not shared: %s", snapshot.name, error)
            for path in made.glob(f"*{_ONNX}*"):
                path.unlink()
            (made / _REFUSED).write_text(str(error), "utf-8")
        for path in (*made.iterdir(), made):
            _to_disk(path)
        made.rename(target)


def _write_proven(graphs: Paths, folder: Path, proves: Callable[[Paths], bool]) -> None:
    copies = {role: folder / f"{role}{_ONNX}" for role in graphs}
    try:
        for role, path in graphs.items():
            write_prepared(path, copies[role])
        same = proves(copies)
    except Exception as error:  # onnxruntime has errors of its own, and the graphs themselves are there still
        raise _NotSharedError(str(error)) from error
    if not same:
        raise _NotSharedError("its copy answers differently")


def _sweep(folder: Path) -> None:
    """Remove copies of snapshots that are there no more; processes that have them open keep them."""
    for note in folder.glob(f"*/{_SNAPSHOT}"):
        if not Path(note.read_text("utf-8")).is_dir():
            shutil.rmtree(note.parent, ignore_errors=True)


def _machine() -> str:
    """A digest of what decides how weights are arranged: onnxruntime's release and the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8", "replace").splitlines() if cpuinfo.is_file() else [platform.processor()]
    cpu = sorted({line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))} or lines)
    text = "\n".join((onnxruntime.__version__, platform.machine(), *cpu))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait until no other process has this turn."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
