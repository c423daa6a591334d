"""Every input of the action can be given to the reusable workflow too, or has a reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.action.machines import ROOT

IN_THE_CONFIGURATION = "it stands in modeldrop.toml, for each model"
LEFT_OUT = {
    "model": IN_THE_CONFIGURATION,
    "revision": IN_THE_CONFIGURATION,
    "task": IN_THE_CONFIGURATION,
    "variants": IN_THE_CONFIGURATION,
    "registry": IN_THE_CONFIGURATION,
    "recipe": IN_THE_CONFIGURATION,
    "thresholds": IN_THE_CONFIGURATION,
    "texts": IN_THE_CONFIGURATION,
    "max-length": IN_THE_CONFIGURATION,
    "test-command": IN_THE_CONFIGURATION,
    "name": "it is the matrix's",
    "phase": "the two steps are the two phases",
    "build-folder": "both steps are in one job, and find it by themselves",
    "propose": "the input environment says it",
    "summary": "one summary tells of all models, besides each one's",
}
BUILD_ALONE = {"reuse-builds"}
PUBLISH_ALONE = {"upload-report", "test-on", "test-timeout", "test-retries"}


def load(path: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((ROOT / path).read_text("utf-8"))
    return loaded


def steps_by_phase(workflow: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    steps = [step for step in workflow["jobs"]["publish"]["steps"] if step.get("uses") == "$/publish"]
    return {step["with"]["phase"]: step["with"] for step in steps}


def test_every_input_is_passed_on_or_left_out_with_a_reason() -> None:
    action, workflow = load("action.yml"), load(".github/workflows/publish-models.yml")
    called = workflow[True]["workflow_call"]["inputs"]  # to a reader of YAML the key "on" is true
    phases = steps_by_phase(workflow)
    passed = set(action["inputs"]) - set(LEFT_OUT)
    assert set(LEFT_OUT) <= set(action["inputs"])
    assert not passed - set(called)
    assert not set(LEFT_OUT) & set(called)
    for name in passed:
        steps = {phase for phase, given in phases.items() if given.get(name) == f"${{{{ inputs.{name} }}}}"}
        expected = {"build"} if name in BUILD_ALONE else {"publish"} if name in PUBLISH_ALONE else {"build", "publish"}
        assert steps == expected, name
        given = called[name].get("default")
        assert name == "config" or str(given).lower() == action["inputs"][name]["default"], name


def test_the_job_that_comments_and_finds_kept_builds_may() -> None:
    job = load(".github/workflows/publish-models.yml")["jobs"]["publish"]
    assert job["permissions"].items() >= {"actions": "read", "pull-requests": "write"}.items()
