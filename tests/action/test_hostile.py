"""Inputs that want to be executed, or to speak to the runner: the real action.yml fails cleanly, and nothing else.

GitHub hands inputs to the action as text. What they attack is the way from there: scripts, options, the log, files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.action.machines import ROOT, TINY, USES, Machines
from tests.runner import workflow_commands
from tests.runner.events import Event
from tests.runner.job import Job
from tests.runner.results import StepResult

GOOD = {"model": TINY, "name": "embedder", "registry": "./registry", "dry-run": "true"}
INPUTS = sorted(yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))["inputs"])
READ_FIRST = ("config", "python-version", "working-directory")
"""Those without which the others are not looked at."""
CANARY = "canary"
INJECTED = "injected"

# Every attack that one text can hold.
ALL = (
    f"\"; touch {CANARY}; ' $(touch {CANARY}) `touch {CANARY}` ${{{{ github.token }}}} && touch {CANARY}\n"
    f"::set-output name={INJECTED}::{INJECTED}\n::error::{INJECTED}\n::add-mask::a\n::stop-commands::{INJECTED}\n"
    f"##[error]{INJECTED}\n{INJECTED}<<EOF\nEOF\n{INJECTED}={INJECTED}\n--version\n\x1b[2J\u202e"
)
VALUES = {
    "rm": '"; rm -rf ~; "',
    "substitution": f"$(touch {CANARY})",
    "backticks": f"`touch {CANARY}`",
    "newlines": f"a\ntouch {CANARY}\nb",
    "command": f"::set-output name={INJECTED}::{INJECTED}",
    "old command": f"text ##[error]{INJECTED}",
    "escaped command": f"a%0A::error::{INJECTED}",
    "carriage return": f"a\r::error::{INJECTED}\rb",
    "flag": "--help",
    "flag with a value": f"--log={CANARY}",
    "expression": "${{ github.token }}",
    "long": "x" * 10_000,
    "many lines": "x\n" * 5_000,
    "unicode": "модель 漢字 \U0001f600 e\u0301 \u2028 \u202e",
    "nul": "a\0b",
    "up": "../../../etc/passwd",
    "device": "/dev/stdin",
    "python": "{__import__('os').system('id')!r:%s %(x)s",
}


def some_of(names: Iterable[str], *these: str) -> list[Any]:
    """All of them as parameters. All but these take the same way as others: ``make soak`` runs them."""
    return [pytest.param(name, marks=() if name in these else pytest.mark.soak) for name in names]


def assert_harmless(job: Job, result: StepResult) -> None:
    """Nothing was executed, and the runner heard nothing but what the action itself had to say."""
    assert [path for path in job.folder.rglob(f"*{CANARY}*") if path.is_file()] == []
    assert (job.home).is_dir()
    commands = workflow_commands.read(result.log)
    assert {command.name for command in commands} <= {
        "add-mask", "endgroup", "error", "group", "notice", "stop-commands", "warning",
    }  # fmt: skip
    assert INJECTED not in {command.data for command in commands}
    assert [found for found in result.annotations if found.message.strip() == INJECTED] == []
    assert all(INJECTED not in step.outputs for step in (result, *result.steps))
    assert all(len(found.message) <= 4096 for found in result.annotations)
    assert "Traceback" not in result.log


def assert_clean_failure(result: StepResult, name: str) -> None:
    assert result.outcome == "failure"
    assert result.exit_code == 2, result.log
    assert len(result.errors) == 1, result.log
    assert result.errors[0].message.startswith(f"The input {name} is ")


def test_all_inputs_with_every_attack(machines: Machines) -> None:
    job = machines.job()
    names = sorted({*INPUTS} - {*READ_FIRST})
    result = job.uses(USES, dict.fromkeys(names, ALL))
    assert_harmless(job, result)
    assert (result.outcome, result.exit_code) == ("failure", 2), result.log
    assert {error.message.split()[2] for error in result.errors} <= set(names)
    assert len(result.errors) > len(names) / 2


@pytest.mark.parametrize("name", some_of(INPUTS, "model", *READ_FIRST))
def test_an_input_with_every_attack(machines: Machines, name: str) -> None:
    job = machines.job()
    result = job.uses(USES, GOOD | {name: ALL})
    assert_harmless(job, result)
    assert_clean_failure(result, name)


@pytest.mark.parametrize(
    "name", some_of(VALUES, "substitution", "newlines", "command", "flag", "expression", "long", "nul")
)
def test_each_attack(machines: Machines, name: str) -> None:
    job = machines.job()
    result = job.uses(USES, GOOD | {"model": VALUES[name]})
    assert_harmless(job, result)
    assert_clean_failure(result, "model")


def checkpoint(job: Job, config: dict[str, Any]) -> dict[str, str]:
    """Inputs for a folder that looks like a checkpoint; it serves for planning."""
    folder = job.workspace / "weights"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    return {"model": "./weights", "name": "embedder", "registry": "./registry"}


def test_a_test_command_and_an_odd_folder_are_not_executed(machines: Machines) -> None:
    """The command is a script of the user's own: it may do what it likes, but not in a run that publishes nothing."""
    job = machines.job()
    inputs = checkpoint(job, {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 100})
    folder = f"./$(touch {CANARY}); `touch {CANARY}` \"'--flag ::error::{INJECTED} ##[error]{INJECTED} <b>|x|</b>"
    asked = {"registry": folder, "test-command": f"touch {CANARY}", "phase": "plan"}
    result = job.uses(USES, inputs | asked)
    assert_harmless(job, result)
    assert result.outcome == "success", result.log
    assert "<b>" not in result.summary


def test_a_model_whose_files_attack(machines: Machines) -> None:
    """What is downloaded is from strangers, too."""
    job = machines.job()
    inputs = checkpoint(job, {"model_type": ALL, "architectures": [ALL], "_name_or_path": ALL})
    result = job.uses(USES, inputs)
    assert_harmless(job, result)
    assert result.outcome == "failure"
    assert len(result.errors) == 1, result.log


def test_a_branch_and_a_repository_whose_names_attack(machines: Machines) -> None:
    event = Event(
        ref=f'refs/heads/"$(touch${{IFS}}{CANARY})`touch${{IFS}}{CANARY}`::error::{INJECTED}', repository="a/$(id)"
    )
    job = machines.job(event)
    inputs = checkpoint(job, {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 100})
    result = job.uses(USES, inputs | {"phase": "plan"})
    assert_harmless(job, result)
    assert result.outcome == "success", result.log


def test_a_configuration_that_attacks(machines: Machines) -> None:
    job = machines.job()
    name = json.dumps(ALL)
    (job.workspace / "modeldrop.toml").write_text(f"[models.{name}]\nsource = {name}\n", "utf-8")
    result = job.uses(USES, {"config": "modeldrop.toml", "registry": "./registry"})
    assert_harmless(job, result)
    assert result.outcome == "failure"
    assert len(result.errors) == 1, result.log
