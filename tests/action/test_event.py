import json
from pathlib import Path

import pytest

from modeldrop.action.event import WorkflowEvent, read_event

MAIN = {"repository": {"default_branch": "main"}}


def set_off_by(name: str, branch: str, repository: str | None = "acme/models") -> dict[str, object]:
    """What a workflow_run tells of the run that has set it off."""
    head = None if repository is None else {"full_name": repository}
    return MAIN | {"workflow_run": {"event": name, "head_branch": branch, "head_repository": head, "id": 4711}}


def event(tmp_path: Path, name: str, ref: str, payload: object, actor: str = "octocat") -> WorkflowEvent:
    file = tmp_path / "event.json"
    file.write_text(payload if isinstance(payload, str) else json.dumps(payload), "utf-8")
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
        ("merge_group", "refs/heads/gh-readonly-queue/main/pr-17-0123", MAIN, False),
        # Always of the default branch's code, whatever has set it off.
        ("workflow_run", "refs/heads/main", set_off_by("push", "main"), True),
        ("workflow_run", "refs/heads/main", set_off_by("push", "better"), False),
        ("workflow_run", "refs/heads/main", set_off_by("pull_request", "main"), False),
        ("workflow_run", "refs/heads/main", set_off_by("merge_group", "main"), False),
        ("workflow_run", "refs/heads/main", MAIN, False),
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


PULL = MAIN | {"pull_request": {"head": {"repo": {"full_name": "acme/models"}}}}
FORK = MAIN | {"pull_request": {"head": {"repo": {"full_name": "somebody/models"}}}}


@pytest.mark.parametrize(
    ("name", "payload", "proposal", "fork", "description"),
    [
        ("push", MAIN, False, False, "push"),
        ("schedule", {}, False, False, "schedule"),
        ("pull_request", PULL, True, False, "pull_request"),
        ("pull_request", FORK, True, True, "pull_request from a fork"),
        ("pull_request_target", FORK, True, True, "pull_request_target from a fork"),
        ("pull_request_review", PULL, True, False, "pull_request_review"),
        ("merge_group", MAIN, True, False, "merge_group"),
        ("workflow_run", set_off_by("push", "main"), False, False, "workflow_run set off by push"),
        ("workflow_run", set_off_by("merge_group", "x"), True, False, "workflow_run set off by merge_group"),
        ("workflow_run", set_off_by("pull_request", "x"), True, False, "workflow_run set off by pull_request"),
        (
            "workflow_run",
            set_off_by("pull_request", "main", "somebody/models"),
            True,
            True,
            "workflow_run set off by pull_request from a fork",
        ),
        (
            "workflow_run",
            set_off_by("pull_request_target", "main", None),
            True,
            True,
            "workflow_run set off by pull_request_target from a fork",
        ),
    ],
)
def test_what_is_only_a_proposal(
    tmp_path: Path, name: str, payload: object, proposal: bool, fork: bool, description: str
) -> None:
    found = event(tmp_path, name, "refs/heads/main", payload)
    assert (found.is_proposal, found.fork, found.description) == (proposal, fork, description)


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


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize("payload", [[], {"repository": None}, {"pull_request": None}, '"text"', "{", DEEP])
def test_a_payload_of_another_form_is_an_event_without_a_default_branch(tmp_path: Path, payload: object) -> None:
    assert event(tmp_path, "push", "refs/heads/main", payload).default_branch == ""


def test_no_payload_at_all() -> None:
    assert read_event({}).name == ""
