"""The GitHub Action: a run that finds everything unchanged, beside a first run.

Both on the tests' own runner (``tests/runner``), which does what GitHub's does with the real ``action.yml``: an S3
registry (moto), a small model on a local hub, packages from a local index. The exporter is there already in both, as
on a self-hosted runner; a first run installs what plans and publishes, exports and publishes. A warm run finds that
small part installed, as a second step of a job does; a fresh one finds an empty temporary folder, as a job on a new
runner does, and everything is counted: the environment, its packages, plan and report. Its processor time is that of
all its processes, the least of several runs; what else the machine does disturbs it less than the wall's.

What it installs is counted in bytes of all files of its environment.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from benchmarks.result import Row
from tests.action.machines import TINY, USES, Machines, copy_checkout
from tests.helpers import checkpoints
from tests.runner.expressions import GitHub
from tests.servers.hub import HubServer
from tests.servers.s3 import S3Server
from tests.servers.wheels import WheelServer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.workspace import Workspace
    from tests.runner.job import Job

ROUNDS = 5
_SECONDS, _MEGABYTES = 3.0, 30


def run(workspace: Workspace) -> list[Row]:
    folder = workspace.folder / "action"
    folder.mkdir()
    with GitHub() as github, HubServer() as hub, WheelServer() as wheels, S3Server() as s3:
        hub.add_repo(TINY, checkpoints.bert(folder / "checkpoint"))
        machines = Machines(
            github=github, folder=folder / "machines", checkout=copy_checkout(folder), hub=hub, wheels=wheels
        )
        job = machines.job(machine=s3.environment, fresh=True)
        inputs = {"model": TINY, "name": "embedder", "registry": s3.registry(), "variants": "fp32"}
        first = _seconds(job, inputs, built="true")
        warm = min(_seconds(job, inputs, built="false") for _ in range(workspace.rounds(ROUNDS)))
        fresh = []
        for _ in range(workspace.rounds(ROUNDS)):
            job = machines.job(machine=s3.environment, fresh=True)
            before = _processor_seconds()
            wall = _seconds(job, inputs, built="false")
            fresh.append((_processor_seconds() - before, wall))
    installed = sum(_size(environment) for environment in job.temp.glob("modeldrop/plan-*"))
    return [
        Row(
            "action, unchanged (peer: first run, exporter there)",
            warm,
            f"< {_SECONDS:g} s",
            warm < _SECONDS,
            first,
            "s",
        ),
        Row(
            "action, unchanged on a fresh runner, processor time",
            min(fresh)[0],
            f"≤ {_SECONDS:g} s",
            min(fresh)[0] <= _SECONDS,
            unit="s",
        ),
        Row("action, unchanged on a fresh runner, wall", min(wall for _, wall in fresh), "", met=True, unit="s"),
        Row(
            "action, installed for that (S3, Hub)", installed, f"≤ {_MEGABYTES} MB", installed <= _MEGABYTES, unit="MB"
        ),
    ]


def _seconds(job: Job, inputs: Mapping[str, str], *, built: str) -> float:
    """Of all steps of the action together."""
    began = time.monotonic()
    result = job.uses(USES, inputs)
    seconds = time.monotonic() - began
    if (result.outputs["version"], result.outputs["built"]) != ("v1", built):
        raise SystemExit(f"action: it did something else than it should have:\n{result.log}")
    return seconds


def _processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _size(folder: Path) -> float:
    """MB; links to the interpreter have no size of their own."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
