"""Dying by SIGKILL right before or right after a chosen system call."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def kill_at(step: int, *names: str) -> None:
    """Kill this process at the ``step``-th moment, counting one before and one after each call of ``os.<name>``."""
    moments = 0

    def moment() -> None:
        nonlocal moments
        moments += 1
        if moments == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            moment()
            result = call(*arguments, **options)
            moment()
            return result

        return stepped

    for name in names:
        setattr(os, name, deadly(getattr(os, name)))
