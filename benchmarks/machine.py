"""The machine and the versions that figures were taken with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = ("torch", "transformers", "optimum", "onnxruntime", "huggingface_hub", "obstore")


def machine() -> str:
    """CPU model, cores and system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, {platform.machine()}, {platform.system()}"


def versions() -> str:
    """Python and the libraries that matter."""
    return ", ".join(
        [f"Python {platform.python_version()}"] + [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    )


def load() -> float:
    """How many processes wanted a core in the last minute: above about 0.3, others were measured too."""
    return round(os.getloadavg()[0], 2)


@contextlib.contextmanager
def all_cores_busy() -> Iterator[None]:
    """Keep every core busy with a process that only computes."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
