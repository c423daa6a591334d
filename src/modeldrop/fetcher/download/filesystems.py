"""What kind of file system a folder is in."""

from __future__ import annotations

import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = {"tmpfs", "ramfs"}


def is_in_memory(folder: Path) -> bool:
    """Whether what is written there stays in memory: known on Linux only, elsewhere False."""
    try:
        device = folder.stat().st_dev
        mounts = _MOUNTS.read_text("utf-8", "replace")
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():  # 36 35 98:0 /root /mount/point rw,noatime shared:1 - tmpfs tmpfs rw
        mount, _, kind = line.partition(" - ")
        if mount.split(" ", 3)[2:3] == [wanted]:
            return kind.partition(" ")[0] in _IN_MEMORY
    return False
