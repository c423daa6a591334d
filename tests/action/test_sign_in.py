import pytest

from modeldrop.action.event import WorkflowEvent
from modeldrop.action.steps import explain_sign_in
from modeldrop.errors import ModeldropError, SourceError
from modeldrop.storage import errors as storage_errors

MAIN = WorkflowEvent("push", "refs/heads/main", "main")
FORK = WorkflowEvent("pull_request", "refs/pull/17/merge", "main", fork=True)
MAY_SIGN_IN = {"ACTIONS_ID_TOKEN_REQUEST_URL": "https://token.actions.githubusercontent.com/"}


def nobody() -> ModeldropError:
    return storage_errors.no_credentials("s3://acme-models", "Looked everywhere.")


@pytest.mark.parametrize(
    ("part", "login"),
    [("s3", "configure-aws-credentials"), ("gcs", "google-github-actions/auth"), ("azure", "azure/login")],
)
def test_the_missing_permission_or_else_the_missing_step_is_named(part: str, login: str) -> None:
    hint = explain_sign_in(nobody(), MAIN, {}, ["hub", part]).hint
    assert "id-token: write" in hint
    assert login in hint
    hint = explain_sign_in(nobody(), MAIN, MAY_SIGN_IN, [part]).hint
    assert hint.startswith("The job may sign in")
    assert login in hint


def test_a_fork_can_never_sign_in() -> None:
    assert "from a fork" in explain_sign_in(nobody(), FORK, {}, ["s3"]).hint
    dependabot = WorkflowEvent("pull_request", "refs/pull/17/merge", "main", actor="dependabot[bot]")
    assert "of Dependabot" in explain_sign_in(nobody(), dependabot, {}, ["s3"]).hint


@pytest.mark.parametrize("parts", [[], ["hub"]])
def test_without_a_cloud_nothing_is_added(parts: list[str]) -> None:
    assert explain_sign_in(nobody(), FORK, {}, parts).hint == "Looked everywhere."


def test_other_errors_stay_as_they_are() -> None:
    error = SourceError("It is gated.", "Ask for access.")
    assert explain_sign_in(error, FORK, {}, ["s3"]).hint == "Ask for access."
    denied = storage_errors.denied("s3://acme-models", "write", "embedder/v1")
    assert explain_sign_in(denied, MAIN, {}, ["s3"]).hint == denied.hint
