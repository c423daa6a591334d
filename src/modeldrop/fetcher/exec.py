"""Starting a program in this process's place, with the fetched models in its environment.

Nothing of modeldrop stays: the program has this process's id, terminal and standard streams, gets its signals, and its
exit code is the process's. What it inherits is the environment, and a shared lock on each snapshot, held by an open
descriptor, so that nobody evicts a snapshot while it runs.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from modeldrop.errors import CommandNotFoundError, DiskError, ModeldropError, NotExecutableError
from modeldrop.fetcher.leases import hold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from modeldrop.fetcher.snapshot import Snapshot

_MORE = ("FILE", "VERSION", "VARIANT", "DIGEST", "GENERATION")
# Python ignores them, and what a process ignores the next program ignores too: no shell pipeline would end.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)


def variable_name(model: str) -> str:
    """The variable that holds a model's path: ``MODELDROP_MODEL_EMBEDDER_V2`` for ``embedder-v2``."""
    return f"MODELDROP_MODEL_{re.sub('[^a-z0-9]', '_', model).upper()}"


def variable_names(model: str) -> Iterator[str]:
    """All variables that tell of a model."""
    name = variable_name(model)
    yield name
    for more in _MORE:
        yield f"{name}_{more}"


def variables(snapshot: Snapshot) -> dict[str, str]:
    """What a program is told of a snapshot. A pinned version has no generation."""
    values = (
        str(snapshot.path),
        str(snapshot.model_file),
        f"v{snapshot.version}",
        snapshot.variant,
        snapshot.digest,
        "" if snapshot.generation is None else str(snapshot.generation),
    )
    return {name: value for name, value in zip(variable_names(snapshot.model), values, strict=True) if value}


def exec_command(command: Sequence[str], snapshots: Iterable[Snapshot]) -> NoReturn:
    """Replace this process by ``command``, with every snapshot in its environment.

    Raises:
        CommandNotFoundError, NotExecutableError: the command cannot be started.
        DiskError: a snapshot has been removed meanwhile.
    """
    environment = dict(os.environ)
    for snapshot in snapshots:
        _keep(snapshot)
        for name in variable_names(snapshot.model):
            environment.pop(name, None)  # of a run around this one
        environment |= variables(snapshot)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    before = [(number, signal.signal(number, signal.SIG_DFL)) for number in _IGNORED]
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606  running it is the point
    except OSError as error:
        for number, handler in before:
            signal.signal(number, handler)
        raise _not_started(command[0], error) from error


def _not_started(program: str, error: OSError) -> ModeldropError:
    text, hint = f"Could not start {program}: {error.strerror}.", "Check the command after '--'."
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotExecutableError(text, hint)
    import shutil  # it takes a while to load

    if shutil.which(program) is None:
        return CommandNotFoundError(text, hint)
    return NotExecutableError(f"{text} It is there; what its first line names, or its loader, is not.", hint)


def _keep(snapshot: Snapshot) -> None:
    """Hold a snapshot by a descriptor that the program inherits."""
    try:
        hold(snapshot)
    except FileNotFoundError as error:
        raise DiskError(
            f"{snapshot} was removed after it was fetched.", "Run the same command again; keep more with --keep."
        ) from error
    except OSError:
        pass  # where it cannot be held, it can be used all the same
