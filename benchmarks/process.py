"""A process, measured from start to end."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# A process begins with the memory that its parent had: this small one is the parent, not the benchmarks.
_LAUNCH = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - began, usage.ru_maxrss, usage.ru_utime + usage.ru_stime]))
sys.exit(1 if status else 0)
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Wall seconds, most megabytes (10^6 bytes) of memory, and processor seconds (user and system)."""

    seconds: float
    megabytes: float
    processor: float


def measure(command: list[str], environment: Mapping[str, str], folder: Path | None = None) -> Measured:
    """Run a process, which must succeed, in ``folder``."""
    told = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCH, *command], check=False, env=environment, cwd=folder, capture_output=True
    )
    if told.returncode:
        sys.exit(f"{' '.join(command)}\nfailed:\n{told.stderr.decode('utf-8', 'replace')[-3000:]}")
    seconds, most, processor = json.loads(told.stdout.splitlines()[-1])
    # In KiB on Linux, in bytes on macOS.
    return Measured(seconds, most * (1 if sys.platform == "darwin" else 1024) / 1e6, processor)
