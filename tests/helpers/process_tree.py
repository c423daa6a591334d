"""What a command and all processes that it starts use, measured from outside while they run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_EVERY = 0.2


@dataclass(frozen=True)
class Used:
    """What it took.

    Attributes:
        code: of its exit.
        said: standard output and error, as they came.
        seconds: from start to end.
        memory: bytes, the most that all processes together had at one of the moments that were looked at; what
            several share, such as a forked copy, counts once.
        process: bytes, the most that one of them ever had, by the kernel's own count.
        disk: bytes of files, the most that were below the folder at one of these moments.
    """

    code: int
    said: str
    seconds: float
    memory: int
    process: int
    disk: int


def watch(command: list[str], folder: Path, environment: Mapping[str, str]) -> Used:
    """Run a command, which writes below a folder."""
    memory = process = disk = 0
    log = folder.with_name(f"{folder.name}.log")
    began = time.monotonic()
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment))
        try:
            while running.poll() is None:
                shares = list(_memory(running.pid))
                memory = max(memory, sum(share for share, _ in shares))
                process = max(process, *(most for _, most in shares), 0)
                disk = max(disk, _disk(folder))
                time.sleep(_EVERY)
        finally:
            running.kill()
            running.wait()
    return Used(
        code=running.returncode,
        said=log.read_text("utf-8"),
        seconds=time.monotonic() - began,
        memory=memory,
        process=process,
        disk=disk,
    )


def _memory(pid: int) -> Iterator[tuple[int, int]]:
    """Of every process: its share of memory now, and the most that it had in all its life."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return
    for one in processes:
        try:
            lines = Path(f"/proc/{one.pid}/status").read_text("utf-8").splitlines()
            share = one.memory_full_info().pss
        except (OSError, psutil.Error):
            continue  # it has ended
        most = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
        yield share, most


def _disk(folder: Path) -> int:
    """Blocks that its files take, each once, however many names it has."""
    taken: dict[int, int] = {}
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue  # removed meanwhile
        taken[status.st_ino] = status.st_blocks * 512
    return sum(taken.values())
