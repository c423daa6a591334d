"""GitHub's own reader of actions and workflows, and its evaluator of expressions, as one Node process.

@actions/workflow-parser and @actions/expressions are what github.com and its editors use: they know which
contexts may stand where, how values compare, and that a condition without a status function means success().
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.node import NODE_FOLDER, node

_SCRIPT = Path(__file__).with_name("evaluator.mjs")
_STOP_SECONDS = 5.0


class ExpressionError(Exception):
    """An expression that GitHub would refuse, or fail to evaluate."""


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression gave: as text, whether it counts as true, and the whole of it."""

    text: str
    true: bool
    data: Any


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file as GitHub reads it: its faults, or its tree, where ``{"$": expression}`` is still to be evaluated."""

    errors: tuple[str, ...]
    tree: Mapping[str, Any]


class GitHub:
    """The process; a context manager. Not for several threads."""

    def __init__(self) -> None:
        packages = NODE_FOLDER / "node_modules"
        if not (packages / "@actions").is_dir():
            raise RuntimeError(f"{packages / '@actions'} is not there: `make test` installs it.")
        self._command = [str(node()), str(_SCRIPT), str(packages)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"NODE_NO_WARNINGS": "1"}
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def action(self, file: Path) -> Parsed:
        """An action.yml; every step has its ``id`` and its ``if``."""
        return self._parse("action", file, file.parent)

    def workflow(self, file: Path, root: Path) -> Parsed:
        """A workflow; ``root`` is the repository in which it finds the workflows it calls."""
        return self._parse("workflow", file, root)

    def evaluate(self, expression: str, contexts: Mapping[str, Any], status: Mapping[str, bool]) -> Value:
        """The value of an expression without its braces.

        Raises:
            ExpressionError: it does not parse, or cannot be evaluated.
        """
        answer = self._ask({"task": "evaluate", "expression": expression, "contexts": contexts, "status": status})
        if failed := answer.get("failed"):
            raise ExpressionError(f"{expression}: {failed}")
        return Value(answer["text"], answer["true"], json.loads(answer["json"]))

    def _parse(self, task: str, file: Path, root: Path) -> Parsed:
        answer = self._ask({"task": task, "name": file.name, "content": file.read_text("utf-8"), "root": str(root)})
        if failed := answer.get("failed"):
            return Parsed((failed,), {})
        return Parsed(tuple(answer["errors"]), answer.get("tree", {}))

    def _ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the evaluator ended with exit code {self._process.wait(_STOP_SECONDS)}")
        answer: Mapping[str, Any] = json.loads(line)
        return answer
