"""Memory and disk, checked before slow work. A build that is killed after an hour says nothing of why."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.build.causes import NO_MEMORY
from modeldrop.build.variants import FP32
from modeldrop.errors import DiskError, ExportError
from modeldrop.terminal import size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.build.checking import Checked

# Times the weights in fp32: a 568M model of 2.27 GB took 2.6 to export, and 3.7 to quantize.
_EXPORTING, _MAKING = 2.6, 4.0
_LIBRARIES = 500_000_000
# Of the disk: a variant of less precision takes at most half of fp32, and copies for the proof are links.
_VARIANT = 0.5
_SMALL_FILES = 16 << 20
_HALF = ("float16", "bfloat16")
_MEMINFO = Path("/proc/meminfo")
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def check_resources(checked: Checked, folder: Path) -> None:
    """Refuse to begin where the work would not fit.

    Args:
        checked: what is to be built.
        folder: where it is built.

    Raises:
        DiskError, ExportError: says how much there is of disk or memory, and how much is needed.
    """
    source = checked.request.source
    weights = source.weight_bytes()
    fp32 = weights * (2 if _stored_as(source.config()) in _HALF else 1)
    others = [name for name in checked.request.recipe.variants if name != FP32.name]
    disk = int(weights + fp32 * (1 + _VARIANT * len(others))) + _SMALL_FILES
    free = shutil.disk_usage(folder).free
    if free < disk:
        raise DiskError(
            f"{folder} has {size_text(free)} free; building this model needs about {size_text(disk)}.",
            "Free some space, or build in a folder on a larger disk.",
        )
    memory = int(fp32 * (_MAKING if others else _EXPORTING)) + _LIBRARIES
    there = memory_limit()
    if there < memory:
        raise ExportError(
            f"This machine has {size_text(there)} of memory; building this model needs about {size_text(memory)}.",
            NO_MEMORY,
        )


def memory_limit(meminfo: Path = _MEMINFO, limits: tuple[Path, ...] = _GROUP_LIMITS) -> int:
    """Bytes that a process may use here: memory with swap, or what a container is allowed."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text("utf-8").splitlines() if ":" in line)
        there = sum(int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal") if name in lines)
    for path in limits:
        if path.is_file() and (text := path.read_text("utf-8").strip()).isdecimal():
            there = min(there, int(text))
    return there


def _stored_as(config: Mapping[str, object]) -> object:
    return config.get("dtype") or config.get("torch_dtype")
