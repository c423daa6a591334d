"""Handing fetched models to a program that takes this process's place."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, NoReturn

from modeldrop.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from modeldrop.runtime.snapshot import Snapshot


def variable_name(model: str) -> str:
    """The variable that holds a model's path: ``MODELDROP_MODEL_EMBEDDER_V2`` for ``embedder-v2``."""
    return f"MODELDROP_MODEL_{re.sub('[^a-z0-9]', '_', model).upper()}"


def execute(command: Sequence[str], snapshots: Iterable[Snapshot]) -> NoReturn:
    """Replace this process by ``command``, with every snapshot's path in its environment.

    Raises:
        UsageError: the command cannot be started.
    """
    environment = os.environ | {variable_name(snapshot.model): str(snapshot.path) for snapshot in snapshots}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606  running it is the point
    except OSError as error:
        raise UsageError(f"Could not start {command[0]}: {error.strerror}.", "Check the command after '--'.") from error
