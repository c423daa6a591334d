"""Running modeldrop as a user does, in a process of its own or in this one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modeldrop.cli import main
from tests.helpers.builds import CPU
from tests.helpers.exporter_python import exporter_python

ROOT = Path(__file__).resolve().parents[2]
RUNTIME_PYTHON = ROOT / ".venv-runtime" / "bin" / "python"
# Where there is no terminal, a fetch that takes longer than five seconds says how far it is.
_PROGRESS = re.compile(r"^\S+: \d+% of [\d.]+ MB, [\d.]+ MB/s(, [\d:]+ left)?\n", re.MULTILINE)


def without_progress(errors: str) -> str:
    """What was said on standard error, but for how far fetches were, which a machine in no hurry says too."""
    return _PROGRESS.sub("", errors)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def modeldrop(
    *arguments: str | Path,
    python: str | Path = sys.executable,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Ran:
    """Run the command line in a process of its own, and what imports torch in a fork; see ``forked_workers``."""
    exports = python == sys.executable and arguments[:1] in {("build",), ("publish",)}
    result = subprocess.run(
        [python, "-m", "modeldrop", *map(str, arguments)],
        check=False,
        text=True,
        capture_output=True,
        cwd=cwd,
        env=os.environ
        | {"MODELDROP_CPU": CPU}
        | ({"MODELDROP_EXPORTER_PYTHON": exporter_python()} if exports else {})
        | (environment or {}),
    )
    return Ran(result.returncode, result.stdout, result.stderr)


def run_here(*arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, output, errors."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    out.seek(0)
    return code, out.read(), err.getvalue()


def ran_here(*arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Ran:
    """As ``modeldrop``, but in this process: for tests whose subject is not the process."""
    with pytest.MonkeyPatch.context() as patch:
        if cwd is not None:
            patch.chdir(cwd)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        return Ran(*run_here(*arguments))


def build_here(source: str | Path, output: Path, *options: str | Path) -> Ran:
    """Build in this process, whose workers are forks."""
    forked = {"MODELDROP_EXPORTER_PYTHON": exporter_python()}
    return ran_here("build", source, "-o", output, *options, environment=forked)


def answer(*arguments: object) -> Any:
    """What a command that must succeed prints as JSON; it runs in this process."""
    code, out, err = run_here(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)
