"""Machines on which the real action.yml is executed: self-hosted runners with an exporter already there."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.exporter_python import exporter_python
from tests.runner.events import Event
from tests.runner.expressions import GitHub
from tests.runner.job import Job
from tests.servers.hub import HubServer
from tests.servers.wheels import WheelServer

ROOT = Path(__file__).resolve().parents[2]
ACTION = "modeldrop/modeldrop"
USES = f"{ACTION}@v0"
TINY = "acme/tiny"
HUB_TOKEN = "hf_" + "s" * 34
PIP_LOG = "pip.log"


def readable(markdown: str) -> str:
    """A summary without the escapes that keep its text from being markup."""
    return re.sub(r"\\(?=[^A-Za-z0-9\s])", "", markdown)


def with_weights(job: Job) -> Job:
    """A folder in the workspace that looks like a checkpoint: enough to plan, and to be refused by an exporter."""
    folder = job.workspace / "weights"
    folder.mkdir()
    config = '{"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 100}'
    for name, text in (("config.json", config), ("tokenizer.json", "{}"), ("model.safetensors", "")):
        (folder / name).write_text(text, "utf-8")
    return job


class Machines:
    """Makes machines, each with a job on it.

    Their temporary and home folders are new, their package index and Hub are the servers of the tests, and the
    exporter is the environment that the tests run in.
    """

    def __init__(self, github: GitHub, folder: Path, checkout: Path, hub: HubServer, wheels: WheelServer) -> None:
        self._github = github
        self._folder = folder
        self._checkout = checkout
        self._jobs: list[Job] = []
        self._machine = {
            **hub.environment,
            "MODELDROP_EXPORTER_PYTHON": _exporter(folder),
            "PIP_INDEX_URL": wheels.url,
        }

    def job(
        self,
        event: Event | None = None,
        *,
        machine: Mapping[str, str] | None = None,
        service: Path | None = None,
        secrets: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        hosted: bool = False,
        system: str = "Linux",
        inputs: Mapping[str, Any] | None = None,
        contexts: Mapping[str, Any] | None = None,
        fresh: bool = False,
    ) -> Job:
        """A job on a new machine, whose own environment gets ``machine`` besides.

        What the action installs to plan is there if another machine has it, but for a ``fresh`` one.
        """
        folder = self._folder / f"machine {len(self._jobs) + 1}"
        folder.mkdir(parents=True)
        settings = folder / "pip.conf"
        settings.write_text(f"[global]\nlog = {folder / PIP_LOG}\n")
        job = Job(
            self._github,
            folder,
            event,
            machine={**self._machine, "PIP_CONFIG_FILE": str(settings), **(machine or {})},
            actions={f"{ACTION}{part}": self._checkout / part[1:] for part in ("", "/publish", "/setup")},
            repository=self._checkout,
            service=service,
            secrets=secrets,
            env=env,
            hosted=hosted,
            system=system,
            inputs=inputs,
            contexts=contexts,
        )
        if not fresh:
            self._share(job)
        self._jobs.append(job)
        return job

    def _share(self, job: Job) -> None:
        """Let the job find the environments that other jobs have made, as a second step of theirs would."""
        own = job.temp / "modeldrop"
        own.mkdir()
        for other in self._jobs:
            for made in other.temp.glob("modeldrop/plan-*/.complete"):
                link = own / made.parent.name
                if not link.exists():
                    link.symlink_to(made.parent.resolve())


def _exporter(folder: Path) -> str:
    """The exporter of the machines; see ``exporter_python``.

    Its workers run the code of the tests, of which the action's checkout is a copy: that would not be forked.
    """
    python = exporter_python()
    if python == sys.executable:
        return python
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "exporter"
    path.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {shlex.quote(python)} "$@"\n')
    path.chmod(0o755)
    return str(path)


def copy_checkout(actions: Path) -> Path:
    """Put the action below a folder as a runner unpacks it."""
    folder = actions / "_actions" / "modeldrop" / "modeldrop" / "v0"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("src", "requirements", "publish", "setup", ".github"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("action.yml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The action as a runner unpacks it: the files of its repository, in a folder with a blank in its name."""
    return copy_checkout(tmp_path_factory.mktemp("the actions"))


@pytest.fixture(scope="session")
def wheels() -> Iterator[WheelServer]:
    """The package index that the machines know."""
    with WheelServer() as server:
        yield server


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """The Hub that the machines know; it is empty."""
    with HubServer(token=HUB_TOKEN) as server:
        yield server


@pytest.fixture(scope="session")
def tiny(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model on the Hub: its id."""
    from tests.helpers import checkpoints

    hub.add_repo(TINY, checkpoints.bert(tmp_path_factory.mktemp("checkpoint")))
    return TINY


@pytest.fixture(scope="session")
def machines(
    github: GitHub, tmp_path_factory: pytest.TempPathFactory, checkout: Path, hub: HubServer, wheels: WheelServer
) -> Machines:
    """Machines in a folder with a blank in its name."""
    return Machines(
        github=github, folder=tmp_path_factory.mktemp("all machines"), checkout=checkout, hub=hub, wheels=wheels
    )
