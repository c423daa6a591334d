"""Somebody who pastes what a page shows into a shell, in an empty folder, with what the page takes for granted.

The shell is a real bash, and modeldrop the real one. Only programs that cannot run in a test have a stub, which
run_step nothing; nothing else is on the PATH, so that a page cannot start what nobody has thought of.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.docs.pages import Block, is_configuration
from tests.helpers.builds import environment
from tests.helpers.waiting import HANG_SECONDS

STUBS = {
    "aws": "an account with Amazon",
    "az": "an account with Microsoft",
    "docker": "an engine; what the page gives to modeldrop's images is run without one",
    "gcloud": "an account with Google",
    "gh": "GitHub",
    "git": "the page's repository",
    "jq": "a program of the distribution; one field is all that pages take with it",
    "make": "it makes environments; CI runs `make demo`, `make test`, `make lint` and `make bench`",
    "mlflow": "an MLflow server",
    "pip": "the package index; tests/docs/test_files.py checks what is asked of it",
}
"""The programs that pages show and tests do not run, with what they would need."""

_COMMON = ("basename", "bash", "cat", "env", "sh")
_STUB = f'#!/bin/sh\nexec "{sys.executable}" -m tests.docs.program_stubs "$(basename "$0")" "$@"\n'
_BY_SOAK_TESTS = frozenset({"export_gliner.py"})
"""Files of pages that only they run, for only they have the packages."""
_SECONDS = HANG_SECONDS


@dataclass(frozen=True)
class Step:
    """Something that a page lets its reader do; ``shown`` is the output that the page shows, "" for none."""

    block: Block
    script: str
    shown: str = ""
    python: bool = False

    def __str__(self) -> str:
        return f"{self.block}: {self.script.strip()}"


@dataclass(frozen=True)
class StepOutput:
    """What a step printed, standard output and errors as they came, and its exit code."""

    code: int
    text: str


class PageRunner:
    """A reader with a folder of their own.

    Args:
        folder: where they are.
        registries: the page's, by the name that it gives them, and where they are here.
        substitutions: what is here for the names that pages show, such as a bucket's URL.
        more: variables of their environment.
    """

    def __init__(
        self, folder: Path, registries: Mapping[str, str], substitutions: Mapping[str, str], more: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.registries = registries
        self._stands_for = dict(sorted(substitutions.items(), key=lambda item: -len(item[0])))
        self._log = folder.parent / "commands.jsonl"
        programs = folder.parent / "bin"
        programs.mkdir()
        for name in ("modeldrop", "python", *STUBS):
            (programs / name).write_text(_STUB, "utf-8")
            (programs / name).chmod(0o755)
        for name in _COMMON:
            found = shutil.which(name)
            assert found is not None, name
            (programs / name).symlink_to(found)
        self._environment = environment(DOCS_LOG=str(self._log), MODELDROP_ACTOR="dana", **more)
        self._environment["PATH"] = str(programs)

    def write_file(self, file: str, text: str) -> None:
        """Write a file that a page shows."""
        (self.folder / file).write_text(self.here(text), "utf-8")

    def here(self, text: str) -> str:
        """``text`` with what is here for what the page names."""
        if not self._stands_for:
            return text
        names = "|".join(rf"(?<![\w./]){re.escape(name)}(?![\w-])" for name in self._stands_for)
        return re.sub(names, lambda match: self._stands_for[match[0]], text)

    def shown(self, text: str) -> str:
        """The other way round: what was printed here, as the page would show it."""
        for name, here in self._stands_for.items():
            text = text.replace(here, name)
        return text.replace(f"{self.folder}/", "…/").replace(str(self.folder), "…")

    def run_step(self, step: Step) -> StepOutput:
        """Do what a step says."""
        script = self.here(step.script)
        command = [sys.executable, "-c", script] if step.python else ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        return StepOutput(done.returncode, self.shown(done.stdout))

    def commands(self) -> list[list[str]]:
        """The programs that were started so far, as their words."""
        return [json.loads(line) for line in self._log.read_text("utf-8").splitlines()] if self._log.exists() else []


def steps(block: Block) -> Iterator[Step]:
    """What a block lets its reader do; nothing if it only shows something."""
    if block.language == "console":
        yield from _typed(block)
    elif block.language == "sh":
        yield Step(block, block.text)
    elif block.language == "python" and block.file not in _BY_SOAK_TESTS:
        yield Step(block, block.text, python=True)
    elif block.tables and not is_configuration(block) and not block.file:  # else a command beside it names the file
        yield Step(block, f"modeldrop plan org/name ./planned/embedder --recipe {block.saved_as}")
    elif block.language == "dockerfile":
        lines = block.text.replace("\\\n", " ").splitlines()
        yield from (Step(block, line[4:]) for line in lines if line.startswith("RUN modeldrop "))
    elif block.language == "yaml":
        yield from (Step(block, script) for document in yaml.safe_load_all(block.text) for script in _runs(document))


def _typed(block: Block) -> Iterator[Step]:
    """The lines that begin with ``$``, each with the output that is shown below it."""
    for typed in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        script, _, shown = typed.replace("\\\n", " ").partition("\n")
        yield Step(block, script, shown)


def _runs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(script := node.get("run"), str):
            yield script
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _runs(item)
