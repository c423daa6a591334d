"""Whole commands, in this process, on a registry behind a proxy that answers one of their requests wrongly."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.loaders import JSONFileLoader

from modeldrop.cli import main
from modeldrop.errors import ModeldropError
from modeldrop.fetcher.download import transfer
from modeldrop.registry.channels import move_forward
from modeldrop.storage.write import open_store
from modeldrop.storage.write.azure import store as azure
from modeldrop.storage.write.conditional import require_conditional_writes
from modeldrop.storage.write.gcs import client as gcs
from modeldrop.storage.write.s3 import connection
from modeldrop.util.retry import Deadline, with_timeout
from tests.helpers.builds import publish_folder
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.fuzzed_answers import SHAPES, Shape

if TYPE_CHECKING:
    import pytest

    from modeldrop.errors import RegistryError
    from tests.servers.fuzzing_proxy import FuzzingProxy

_LONGEST_LINE = 2000
Command = Callable[[int], int]
"""Does it, for the run with this number; the exit code."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended with one of its requests answered wrongly.

    Attributes:
        case: the command, the request and the shape of its answer.
        code: the exit code.
        said: all that it printed.
        seconds: how long it took.
    """

    case: str
    code: int
    said: str
    seconds: float

    def is_defect(self) -> bool:
        """Whether it ended as a defect of ours."""
        return self.code == ModeldropError.exit_code

    def is_readable(self) -> bool:
        """Whether a person, and a terminal, can read what it printed."""
        return all(len(line) < _LONGEST_LINE and line.isprintable() for line in self.said.splitlines())

    def names_a_failure(self) -> bool:
        """Whether it was a success, or its first line says what failed."""
        return self.code == 0 or bool(self.said.strip())

    def __str__(self) -> str:
        return f"{self.case}: exit code {self.code}: {self.said}"


def run_command(*arguments: object) -> int:
    """Run the command line in this process; the exit code."""
    return main([str(argument) for argument in arguments])


def publish(registry: str, model: str, folder: Path) -> int:
    """Publish a finished build as the command does, but without the exporter's modules; the exit code."""
    try:
        store = open_store(registry)
        require_conditional_writes(store)
        version = publish_folder(store, model, folder, adopt_seconds=0.0).version
        move_forward(store, model, version, "current", by="dana")
    except ModeldropError as error:
        sys.stderr.write(f"modeldrop: {error}\n")
        return error.exit_code
    return 0


class FuzzedCommands:
    """Runs each command once to see what it asks, and then again with some of that answered wrongly.

    Args:
        proxy: what all requests go through.
        commands: by name; each is given the number of its run.
    """

    def __init__(self, proxy: FuzzingProxy, commands: Mapping[str, Command]) -> None:
        self._proxy = proxy
        self._commands = commands
        self._numbers = itertools.count(1)

    def cases(self, count: int, shapes: Sequence[Shape] = SHAPES) -> list[tuple[str, int, Shape]]:
        """So many cases, spread evenly over all: each request of each command with each shape."""
        positions = []
        for name in self._commands:
            self._proxy.begin()
            code, said = self._run(name)
            assert code == 0, (name, said)
            positions += [(name, number) for number in range(len(self._proxy.asked))]
        every = [(*position, shape) for shape in shapes for position in positions]
        step = max(1, len(every) // count)
        while math.gcd(step, len(positions)) > 1:  # else it would meet some of the positions only
            step += 1
        return [every[number * step % len(every)] for number in range(min(count, len(every)))]

    def run(self, name: str, position: int, shape: Shape) -> Outcome:
        """Run a command with this request answered so, and all of its repetitions."""
        self._proxy.begin(position, shape)
        began = time.monotonic()
        code, said = with_timeout(lambda: self._run(name), HANG_SECONDS, "fuzzed command")
        seconds = time.monotonic() - began
        method, path = (*self._proxy.asked[position : position + 1], ("", "not asked"))[0]
        return Outcome(f"{name}, request {position} ({method} {path[:150]}): {shape.name}", code, said, seconds)

    def _run(self, name: str) -> tuple[int, str]:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="surrogateescape"), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = self._commands[name](next(self._numbers))
            except Exception:  # noqa: BLE001  as the command line counts it
                code = ModeldropError.exit_code
                traceback.print_exc()
        out.seek(0)
        return code, out.read() + err.getvalue()


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that would be tried again be tried again at once, and not for long."""

    def give_up(_ask: object, error: RegistryError, **_: object) -> object:
        raise error

    # Reading what S3's operations are is half of what a command does that is answered at once.
    monkeypatch.setattr(JSONFileLoader, "load_file", staticmethod(functools.cache(JSONFileLoader().load_file)))
    monkeypatch.setattr("modeldrop.util.retry.jittered", lambda *_: 0.0)
    monkeypatch.setattr("modeldrop.storage.read.patience.ask_again", give_up)
    monkeypatch.setattr(
        transfer, "LIMITS", transfer.LIMITS._replace(pause=0.0, busy_pause=0.0, max_pause=0.0, quiet=0.0)
    )
    monkeypatch.setattr(connection, "_ATTEMPTS", 2)
    monkeypatch.setattr(connection, "_UPLOAD_ATTEMPTS", 2)
    monkeypatch.setattr(azure._RetryLimits, "seconds", lambda *_: 0.02)
    monkeypatch.setattr(gcs, "Deadline", lambda _: Deadline(0.0))
