import json
from pathlib import Path

import pytest

from modeldrop.action.event import WorkflowEvent, read_event

MAIN = {"repository": {"default_branch": "main"}}


def event(tmp_path: Path, name: str, ref: str, payload: object, actor: str = "octocat") -> WorkflowEvent:
    file = tmp_path / "event.json"
    file.write_text(json.dumps(payload), "utf-8")
    return read_event(
        {
            "GITHUB_EVENT_NAME": name,
            "GITHUB_REF": ref,
            "GITHUB_EVENT_PATH": str(file),
            "GITHUB_REPOSITORY": "acme/models",
            "GITHUB_ACTOR": actor,
        }
    )


@pytest.mark.parametrize(
    ("name", "ref", "payload", "expected"),
    [
        ("push", "refs/heads/main", MAIN, True),
        ("workflow_dispatch", "refs/heads/main", MAIN, True),
        ("push", "refs/heads/better", MAIN, False),
        ("push", "refs/tags/main", MAIN, False),
        ("release", "refs/tags/v1", MAIN, False),
        ("schedule", "refs/heads/main", {"schedule": "0 3 * * *"}, True),
        ("push", "refs/heads/", {}, False),
        # It runs on the base's code, but what it is about is a proposal.
        ("pull_request_target", "refs/heads/main", MAIN, False),
    ],
)
def test_the_default_branch(tmp_path: Path, name: str, ref: str, payload: object, expected: bool) -> None:
    assert event(tmp_path, name, ref, payload).on_default_branch is expected


@pytest.mark.parametrize(
    ("name", "actor", "head", "expected"),
    [
        ("pull_request", "octocat", {"full_name": "somebody/models"}, True),
        ("pull_request", "octocat", None, True),  # the fork was deleted
        ("pull_request", "octocat", {"full_name": "acme/models"}, False),
        ("pull_request", "dependabot[bot]", {"full_name": "acme/models"}, True),
        ("pull_request_target", "octocat", {"full_name": "somebody/models"}, False),
    ],
)
def test_who_gets_no_secrets(tmp_path: Path, name: str, actor: str, head: object, expected: bool) -> None:
    payload = MAIN | {"pull_request": {"head": {"repo": head}}}
    assert event(tmp_path, name, "refs/pull/1/merge", payload, actor).without_secrets is expected


@pytest.mark.parametrize(
    ("name", "ref", "expected"),
    [
        ("push", "refs/heads/main", True),
        ("pull_request", "refs/pull/1/merge", True),
        ("release", "refs/tags/v1", False),
        ("push", "refs/tags/v1", False),
        ("pull_request_target", "refs/heads/main", False),
    ],
)
def test_which_runs_use_the_cache(tmp_path: Path, name: str, ref: str, expected: bool) -> None:
    assert event(tmp_path, name, ref, MAIN).may_cache is expected


@pytest.mark.parametrize("payload", [[], {"repository": None}, {"pull_request": None}, "text"])
def test_a_payload_of_another_form_is_an_event_without_a_default_branch(tmp_path: Path, payload: object) -> None:
    assert event(tmp_path, "push", "refs/heads/main", payload).default_branch == ""


def test_no_payload_at_all() -> None:
    assert read_event({}).name == ""
