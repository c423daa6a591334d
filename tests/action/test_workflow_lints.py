"""The action, the workflows and the examples pass every linter there is for them, in its strictest form.

Each linter is also shown a fault that it must find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.workflow_linters import (
    NEWER_THAN_ACTIONLINT,
    ROOT,
    actionlint,
    check_schema,
    shellcheck,
    zizmor,
)
from tests.runner.expressions import GitHub

WORKFLOWS = [*sorted(ROOT.glob(".github/workflows/*.yml")), *sorted(ROOT.glob("examples/workflows/*.yml"))]
ACTIONS = [ROOT / "action.yml", *sorted(ROOT.glob("*/action.yml")), *sorted(ROOT.glob(".github/actions/*/action.yml"))]
DEPENDABOT = ROOT / ".github" / "dependabot.yml"


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
        "      - {run: echo, colour: blue}\n      - uses: $/\n"
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
    findings = [found for found in actionlint(*WORKFLOWS) if not NEWER_THAN_ACTIONLINT.search(found["message"])]
    assert findings == []


def test_actionlint_finds_a_fault(faulty: Path) -> None:
    messages = "\n".join(found["message"] for found in actionlint(faulty))
    assert 'unknown Webhook event "nonsense"' in messages
    assert 'property "nobody" is not defined' in messages
    assert 'specifying action "$/" in invalid format' in messages


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
