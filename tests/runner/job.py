"""A job on the small runner: it executes steps, composite actions among them, one after the other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.helpers.waiting import HANG_SECONDS
from tests.runner import workflow_commands
from tests.runner.action_stubs import Call, run_stub
from tests.runner.events import TOKEN, Event
from tests.runner.expressions import ExpressionError, GitHub
from tests.runner.file_commands import FileCommandError, Files
from tests.runner.results import StepResult
from tests.runner.scripts import UNNAMED_SHELL, ScriptError, run_script
from tests.runner.workflow_commands import Annotation

_STEP_SECONDS = HANG_SECONDS
# What of the github context a process does not see as GITHUB_….
_UNSEEN = frozenset({"action_status", "event", "token"})


@dataclass(slots=True)
class _Scope:
    """Where steps run: in the job itself, or inside a composite action."""

    github: Mapping[str, Any]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)
    failed: bool = False


class _StepError(Exception):
    """What ends a step before, or instead of, its own exit code."""


def _path_of_self(uses: str) -> str:
    """The folder that ``$/folder`` means (PipelineConstants.TryParseSelfRepository)."""
    path = uses.removeprefix("$/").lstrip("/")
    if not path or "@" in path:
        raise _StepError(f"Expected format {{org}}/{{repo}}[/path]@ref. Actual '{uses}'")
    return path


class Job:
    """A job of a workflow, on a machine of its own.

    Args:
        github: GitHub's parser and evaluator.
        folder: an empty folder for the machine: workspace, temporary folder, home.
        event: what set the workflow off; a push to the default branch without it.
        env: the environment that the workflow gives the job.
        machine: the environment of the machine itself, as on a self-hosted runner.
        actions: folders of the actions that are really executed, by owner/name.
        repository: the repository of the workflow, which ``uses: $/…`` means; the workspace without it.
        service: a folder for artifacts, to be shared between jobs.
        secrets: values that are masked from the start.
        hosted: whether the machine is GitHub's own; else it is a self-hosted runner.
        system: what the machine says that it runs.
        inputs: those of a workflow that was called or dispatched.
        contexts: further contexts: matrix, needs, secrets, vars.
    """

    def __init__(
        self,
        github: GitHub,
        folder: Path,
        event: Event | None = None,
        *,
        env: Mapping[str, str] | None = None,
        machine: Mapping[str, str] | None = None,
        actions: Mapping[str, Path] | None = None,
        repository: Path | None = None,
        service: Path | None = None,
        secrets: Iterable[str] = (),
        hosted: bool = False,
        system: str = "Linux",
        inputs: Mapping[str, Any] | None = None,
        contexts: Mapping[str, Any] | None = None,
    ) -> None:
        event = event or Event()
        self.folder = folder
        work = folder / "_work"
        self.workspace = work / "models" / "models"
        self.temp = work / "_temp"
        self.home = folder / "home"
        self.calls: list[Call] = []
        self._github = github
        self._repository = repository or self.workspace
        self._service = service or folder / "service"
        event_file = self.temp / "_github_workflow" / "event.json"
        for path in (self.workspace, event_file.parent, self.home, self._service):
            path.mkdir(parents=True, exist_ok=True)
        event_file.write_text(json.dumps(event.payload), "utf-8")
        self._actions = actions or {}
        self._machine = {"HOME": str(self.home), "LANG": "C.UTF-8", "PATH": os.defpath, **(machine or {})}
        self._env = dict(env or {})
        self._paths: list[str] = []
        self._masks = {TOKEN, *secrets}
        self._runner = {
            "arch": "X64",
            "environment": "github-hosted" if hosted else "self-hosted",
            "name": "test runner",
            "os": system,
            "temp": str(self.temp),
            "tool_cache": str(work / "_tool"),
            "workspace": str(self.workspace.parent),
        }
        self._contexts = contexts or {}
        own = {"action_status": "success", "event_path": str(event_file), "workspace": str(self.workspace)}
        self._root = _Scope(event.context() | own, inputs or {})

    def uses(self, action: str, inputs: Mapping[str, str], env: Mapping[str, str] | None = None) -> StepResult:
        """Run one step that uses an action, if no step before it failed."""
        name = f"step{len(self._root.steps) + 1}"
        return self.step({"id": name, "uses": action, "with": dict(inputs), "env": dict(env or {})})

    def step(self, step: Mapping[str, Any]) -> StepResult:
        """Run a step, as ``GitHub.workflow`` gives it."""
        return self._step(step, self._root)

    def steps(self, steps: Sequence[Mapping[str, Any]]) -> list[StepResult]:
        """Run steps in their order."""
        return [self.step(step) for step in steps]

    def texts(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The values of a mapping in the workflow, such as a job's ``outputs``, at this moment."""
        return self._texts(values, self._root)

    @property
    def failed(self) -> bool:
        """Whether a step failed."""
        return self._root.failed

    def mask(self, text: str) -> str:
        """What a reader sees of a text that was printed or written to the summary."""
        lines = {line for secret in self._masks for line in (secret, *secret.splitlines()) if line}
        for secret in sorted(lines, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _step(self, step: Mapping[str, Any], scope: _Scope) -> StepResult:
        """A step with all around it: its condition, its outcome, and what later steps see of it."""
        here = replace(
            scope,
            github={**scope.github, "action_status": "failure" if scope.failed else "success"},
            env={**scope.env},
        )
        result = self._decide(step, here)
        scope.failed |= result.conclusion == "failure"
        if result.id:
            seen = {"outcome": result.outcome, "conclusion": result.conclusion, "outputs": dict(result.outputs)}
            scope.steps[result.id] = seen
        return result

    def _decide(self, step: Mapping[str, Any], scope: _Scope) -> StepResult:
        result = StepResult(step.get("id", ""), str(step.get("uses", "")) or "run", "failure", "failure")
        try:
            if "name" in step:
                result = replace(result, name=self._text(step["name"], scope))
            scope.env = {**scope.env, **self._texts(step.get("env"), scope)}
            if not self._true(step.get("if", {"$": "success()"}), scope):
                return replace(result, outcome="skipped", conclusion="skipped")
            run = self._use if "uses" in step else self._script
            result = run(step, scope, result)
            forgiven = self._true(step.get("continue-on-error", False), scope)
        except (_StepError, ExpressionError) as error:
            return replace(result, annotations=(*result.annotations, Annotation("error", str(error))))
        passed = result.outcome == "success"
        return replace(result, conclusion="success" if passed or forgiven else "failure")

    def _script(self, step: Mapping[str, Any], scope: _Scope, result: StepResult) -> StepResult:
        files = Files.create(self.temp)
        github = {**scope.github, **{name: str(path) for name, path in files.paths.items()}}
        scope = replace(scope, github=github)
        try:
            code, log = run_script(
                self._text(step["run"], scope),
                self._text(step.get("shell", UNNAMED_SHELL), scope),
                folder=self.workspace / self._text(step.get("working-directory", ""), scope),
                temp=self.temp,
                environment=self._environment(scope),
                seconds=_STEP_SECONDS,
            )
        except ScriptError as error:
            raise _StepError(str(error)) from error
        result = replace(result, outcome="failure" if code else "success", log=log, exit_code=code)
        return self._take(result, files)

    def _take(self, result: StepResult, files: Files) -> StepResult:
        """What a step printed and left in its files, put into effect."""
        outputs: dict[str, str] = {}
        annotations: list[Annotation] = []
        refused = ""
        for command in workflow_commands.read(result.log):
            if command.name in ("error", "warning", "notice"):
                annotations.append(workflow_commands.annotation(command))
            elif command.name == "add-mask":
                self._masks.add(command.data)
            elif command.name == "set-output":
                outputs[command.properties["name"]] = command.data
            elif command.name in ("set-env", "add-path"):
                refused = f"The `{command.name}` command is disabled."
        try:
            outputs |= files.pairs("output")
            self._env |= {name: value for name, value in files.pairs("env").items() if name != "NODE_OPTIONS"}
            files.pairs("state")
            self._paths += files.lines()
            summary = files.summary()
        except FileCommandError as error:
            refused, summary = str(error), ""
        result = replace(result, outputs=outputs, annotations=tuple(annotations), summary=summary)
        if not refused:
            return result
        return replace(result, outcome="failure", annotations=(*annotations, Annotation("error", refused)))

    def _use(self, step: Mapping[str, Any], scope: _Scope, result: StepResult) -> StepResult:
        uses = self._text(step["uses"], scope)
        inputs = self._texts(step.get("with"), scope)
        action, _, ref = uses.partition("@")
        if action.startswith("./"):
            return self._composite(self.workspace / action, {}, inputs, scope, result)
        if action.startswith("$/"):
            return self._composite(self._repository / _path_of_self(uses), {}, inputs, scope, result)
        if folder := self._actions.get(action):
            own = {"action_ref": ref, "action_repository": action}
            return self._composite(folder, own, inputs, scope, result)
        call = Call(
            action=action,
            ref=ref,
            inputs=inputs,
            environment=self._environment(scope),
            workspace=self.workspace,
            temp=self.temp,
            service=self._service,
        )
        self.calls.append(call)
        effect = run_stub(call)
        self._env |= effect.env
        self._paths += map(str, effect.path)
        self._masks |= set(effect.masks)
        if effect.failed:
            raise _StepError(effect.failed)
        return replace(result, outcome="success", outputs=effect.outputs)

    def _composite(
        self,
        folder: Path,
        own: Mapping[str, str],
        inputs: Mapping[str, str],
        scope: _Scope,
        result: StepResult,
    ) -> StepResult:
        parsed = self._github.action(folder / "action.yml")
        if parsed.errors:
            raise _StepError("\n".join(parsed.errors))
        action = parsed.tree
        declared = action.get("inputs") or {}
        given = {name.lower(): value for name, value in inputs.items()}
        unexpected = sorted(set(given) - {name.lower() for name in declared})
        values = {
            name: given[name.lower()] if name.lower() in given else self._text((one or {}).get("default"), scope)
            for name, one in declared.items()
        }
        inner = _Scope({**scope.github, **own, "action_path": str(folder)}, values, scope.env)
        steps = tuple(self._step(step, inner) for step in action["runs"]["steps"])
        outputs = {
            name: self._text(output.get("value"), inner) for name, output in (action.get("outputs") or {}).items()
        }
        warnings = [Annotation("warning", f"Unexpected input(s) {', '.join(unexpected)}")] if unexpected else []
        return replace(
            result,
            outcome="failure" if inner.failed else "success",
            outputs=outputs,
            log="".join(one.log for one in steps),
            annotations=(*warnings, *(found for one in steps for found in one.annotations)),
            summary="".join(one.summary for one in steps),
            exit_code=next((one.exit_code for one in steps if one.conclusion == "failure"), 0),
            steps=steps,
        )

    def _environment(self, scope: _Scope) -> dict[str, str]:
        """What a step's process finds in its environment."""
        github = {f"GITHUB_{name.upper()}": value for name, value in scope.github.items() if name not in _UNSEEN}
        runner = {f"RUNNER_{name.upper()}": value for name, value in self._runner.items()}
        found = {**self._machine, "CI": "true", "GITHUB_ACTIONS": "true", **self._env, **scope.env, **runner}
        found |= {name: str(value) for name, value in github.items()}
        found["PATH"] = os.pathsep.join([*reversed(self._paths), found["PATH"]])
        return found

    def _evaluation(self, scope: _Scope) -> tuple[dict[str, Any], dict[str, bool]]:
        contexts = {
            **self._contexts,
            "env": {**self._env, **scope.env},
            "github": scope.github,
            "inputs": scope.inputs,
            "job": {"status": "failure" if self._root.failed else "success"},
            "runner": self._runner,
            "steps": scope.steps,
        }
        return contexts, {"success": not scope.failed, "failure": scope.failed}

    def _text(self, value: Any, scope: _Scope) -> str:
        """A scalar of the file as text, evaluated where it is an expression."""
        if isinstance(value, Mapping):
            found = self._github.evaluate(value["$"], *self._evaluation(scope))
            if isinstance(found.data, (dict, list)):
                raise ExpressionError(f"{value['$']}: a {type(found.data).__name__} where text is expected")
            return found.text
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else str(value)

    def _texts(self, values: Mapping[str, Any] | None, scope: _Scope) -> dict[str, str]:
        return {name: self._text(value, scope) for name, value in (values or {}).items()}

    def _true(self, value: Any, scope: _Scope) -> bool:
        if isinstance(value, Mapping):
            return self._github.evaluate(value["$"], *self._evaluation(scope)).true
        return bool(value)
