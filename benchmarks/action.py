"""The GitHub Action: a run that finds everything unchanged, beside a first run.

Both on the tests' own runner (``tests/runner``), which does what GitHub's does with the real ``action.yml``: an S3
registry (moto), a small model on a local hub, packages from a local index. The exporter is there already in both, as
on a self-hosted runner; a first run installs what plans and publishes, exports and publishes. A warm run finds that
small part installed, as a second step of a job does; a fresh one finds an empty temporary folder, as a job on a new
runner does, and everything is counted: the environment, its packages, plan and report. Its processor time is that of
all its processes, the least of several runs; what else the machine does disturbs it less than the wall's.

What it installs is counted in bytes of all files of its environment.

Then everything on a new runner, with MiniLM in fp32 and int8: the exporter is installed, from wherever this machine's
pip has its packages and torch from an index on this machine, and a second runner that has it already does the same.
What lies between the two is installing.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.result import Row
from benchmarks.workspace import SOURCE
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

MINILM = "acme/all-MiniLM-L6-v2"
ROUNDS = 5
_SECONDS, _MEGABYTES = 3.0, 30


def run(workspace: Workspace) -> list[Row]:
    folder = workspace.folder / "action"
    folder.mkdir()
    with GitHub() as github, HubServer() as hub, WheelServer() as wheels, S3Server() as s3:
        hub.add_repo(TINY, checkpoints.bert(folder / "checkpoint"))
        hub.add_repo(MINILM, SOURCE)
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
        _add_torch(wheels, folder)
        new = {"MODELDROP_EXPORTER_PYTHON": "", "PIP_INDEX_URL": ""}
        whole = _first_publish(machines, {**s3.environment, **new}, s3.registry(), wheels.url)
        build = _first_publish(machines, s3.environment, s3.registry(), wheels.url)
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
            "action, everything on a new runner, processor time (peer: exporter there)",
            whole,
            "",
            met=True,
            peer=build,
            unit="s",
        ),
        Row("action, share of that for installing the exporter", 100 * (1 - build / whole), "", met=True, unit="%"),
        Row(
            "action, installed for that (S3, Hub)", installed, f"≤ {_MEGABYTES} MB", installed <= _MEGABYTES, unit="MB"
        ),
    ]


def _add_torch(wheels: WheelServer, folder: Path) -> None:
    """Let the index have torch too: the version that this environment has, 200 MB."""
    wanted = f"torch=={version('torch').partition('+')[0]}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wanted]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("torch-*.whl")
    wheels.files[wheel.name] = wheel


def _first_publish(machines: Machines, machine: Mapping[str, str], registry: str, torch_index: str) -> float:
    """Processor seconds of all processes of a job on a new machine with this environment."""
    job = machines.job(machine=machine, fresh=True)
    inputs = {"model": MINILM, "name": "minilm", "registry": registry, "variants": "fp32 int8"}
    before = _processor_seconds()
    _seconds(job, inputs | {"torch-index": torch_index}, built="true")
    return _processor_seconds() - before


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
