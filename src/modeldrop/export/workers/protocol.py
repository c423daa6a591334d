"""The worker's side of ``worker_process``: how every program here gets its request, and gives its answer or failure."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modeldrop import errors
from modeldrop.export.known_failures import known_failure
from modeldrop.export.messages import Failure, WorkerEvent, from_json, to_json
from modeldrop.util.process import die_with_parent, own_answers
from modeldrop.util.text import first_line

RequestT = TypeVar("RequestT")


class Events:
    """Tells the parent how far the work is, in lines of JSON on what was standard output."""

    def __init__(self) -> None:
        self._stream = os.fdopen(own_answers(), "w", encoding="utf-8")

    def step(self, name: str) -> None:
        """A part of the work begins."""
        self._send(WorkerEvent(step=name))

    def progress(self, done: int, total: int) -> None:
        """``done`` of ``total`` of the present part is done."""
        self._send(WorkerEvent(done=done, total=total))

    def inputs(self, count: int) -> None:
        """On how many inputs the variants are compared."""
        self._send(WorkerEvent(inputs=count))

    def _send(self, event: WorkerEvent) -> None:
        self._stream.write(json.dumps(to_json(event)) + "\n")
        self._stream.flush()


def serve(work: Callable[[RequestT, Events], object], kind: type[RequestT]) -> None:
    """Run ``work`` on the request that the command line names; write its answer, or its failure, beside it."""
    die_with_parent()  # its standard input is a pipe of ours
    request_path = Path(sys.argv[1])
    request = from_json(kind, json.loads(request_path.read_text("utf-8")))
    try:
        result = {"answer": to_json(work(request, Events()))}
    except Exception as error:
        known = _disk_full(error) or _explained(error)
        if not isinstance(known, errors.ModeldropError):
            raise
        failure = Failure(type(known).__name__, known.message, known.hint, traceback.format_exc())
        result = {"failure": to_json(failure)}
    request_path.with_suffix(".result").write_text(json.dumps(result), "utf-8")
    # Shutting down the heavy libraries takes up to a second, and nothing is left to save.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _disk_full(error: BaseException) -> errors.DiskError | None:
    """The sentence for a full disk, whichever library met it and whatever it made of it."""
    cause: BaseException | None = error
    while cause is not None:
        full = isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if full or "No space left on device" in str(cause):
            return errors.DiskError(
                "The disk got full while the model was built.",
                "Nothing was published. Free some space, or set TMPDIR to a larger disk.",
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _explained(error: Exception) -> Exception:
    """The sentence for what the libraries raise, where they tell of a cause that is known."""
    ours = error if isinstance(error, errors.ModeldropError) else None
    library = error if ours is None else error.__cause__
    if library is None or isinstance(library, errors.ModeldropError):
        return error
    cause = known_failure(f"{type(library).__name__}: {library}")
    if cause is None:
        return error
    if ours is None:
        return errors.ExportError(f"{cause.sentence} {type(error).__name__}: {first_line(error)}", cause.hint)
    return type(ours)(f"{cause.sentence} {ours.message}", f"{cause.hint} {ours.hint}".strip())
