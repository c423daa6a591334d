"""One comment for each model, and builds that an earlier run has kept, against a server that plays GitHub's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.action.event import WorkflowEvent
from modeldrop.action.kept_builds import artifact_name, bring_kept_build
from modeldrop.action.pull_request_comment import keep_comment
from modeldrop.util.github_api import GitHubApi, GitHubError
from tests.servers.github_api import BASE, FORK_ID, GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PULL = WorkflowEvent(name="pull_request", cause="pull_request", pull_request=17)
KEY = "0123456789abcdef" * 4
NAME = artifact_name("embedder", KEY)


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with GitHubServer("ghs_x", {"pull-requests": "write", "actions": "read"}) as server:
        yield server


@pytest.fixture
def api(server: GitHubServer) -> GitHubApi:
    return GitHubApi(f"{server.url}{BASE}", "acme/models", "ghs_x")


def bodies(server: GitHubServer) -> list[str]:
    return [comment["body"] for comment in server.comments[17]]


def test_one_comment_is_brought_up_to_date(server: GitHubServer, api: GitHubApi) -> None:
    """Also where it is far down; and a person's that begins like it stays as it is."""
    server.comment(17, "<!-- modeldrop: embedder -->\nall is well")
    for number in range(150):
        server.comment(17, f"remark {number}")
    keep_comment(api, PULL, "embedder", "first")
    keep_comment(api, PULL, "reranker", "another")
    assert keep_comment(api, PULL, "embedder", "second").endswith("#issuecomment")
    assert bodies(server)[0].endswith("all is well")
    assert bodies(server)[151:] == [
        "<!-- modeldrop: embedder -->\nsecond",
        "<!-- modeldrop: reranker -->\nanother",
    ]


def test_two_that_were_written_at_once_become_one(server: GitHubServer, api: GitHubApi) -> None:
    server.comment(17, "<!-- modeldrop: embedder -->\none", "github-actions[bot]")
    server.comment(17, "a remark")
    server.comment(17, "<!-- modeldrop: embedder -->\ntwo", "github-actions[bot]")
    keep_comment(api, PULL, "embedder", "three")
    assert bodies(server) == ["<!-- modeldrop: embedder -->\nthree", "a remark"]


def test_a_long_comment_is_cut(server: GitHubServer, api: GitHubApi) -> None:
    keep_comment(api, PULL, "embedder", "ü" * 70_000)
    assert bodies(server)[0].endswith("The job summary has all of it.*")


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        (PULL, "`permissions: pull-requests: write`"),
        (WorkflowEvent(name="pull_request", cause="pull_request", fork=True, pull_request=17), "a fork's"),
    ],
)
def test_the_permission_that_lacks_is_named(
    server: GitHubServer, api: GitHubApi, event: WorkflowEvent, hint: str
) -> None:
    server.permissions = {"pull-requests": "read"}
    with pytest.raises(GitHubError) as error:
        keep_comment(api, event, "embedder", "text")
    assert error.value.message.endswith(
        "POST /repos/acme/models/issues/17/comments with 403: Resource not accessible by integration"
    )
    assert hint in error.value.hint
    assert "ghs_x" not in repr(api)


def test_no_answer_and_no_number() -> None:
    with GitHubServer() as server:
        gone = GitHubApi(f"{server.url}{BASE}", "acme/models")
    with pytest.raises(GitHubError, match="does not answer"):
        keep_comment(gone, PULL, "embedder", "text")
    with pytest.raises(GitHubError, match="the number of the pull request"):
        keep_comment(gone, WorkflowEvent(name="workflow_run", cause="pull_request"), "embedder", "text")


def test_the_newest_build_that_the_repository_itself_has_kept(
    server: GitHubServer, api: GitHubApi, tmp_path: Path
) -> None:
    """The store of artifacts refuses a request that brings the token."""
    server.artifact(NAME, {"onnx/model.onnx": b"old"}, run=1)
    server.artifact(NAME, {"onnx/model.onnx": b"new", "../../evil": b"x"}, run=2)
    server.artifact(NAME, {"onnx/model.onnx": b"a fork's"}, head=FORK_ID, run=3)
    server.artifact(NAME, {"onnx/model.onnx": b"gone"}, run=4)
    server.artifacts[0]["expired"] = True
    run = bring_kept_build(api, "embedder", KEY, tmp_path / "builds" / "build")
    assert run == "https://github.com/acme/models/actions/runs/2"
    assert (tmp_path / "builds" / "build" / "onnx" / "model.onnx").read_bytes() == b"new"
    assert not (tmp_path / "evil").exists()


def test_nothing_kept_and_what_is_no_archive(server: GitHubServer, api: GitHubApi, tmp_path: Path) -> None:
    server.artifact(NAME, {"a": b""}, head=FORK_ID)
    assert bring_kept_build(api, "embedder", KEY, tmp_path / "build") == ""
    server.archives[server.artifact(NAME, {"a": b""})] = b"no archive"
    with pytest.raises(GitHubError, match="cannot be used"):
        bring_kept_build(api, "embedder", KEY, tmp_path / "build")
    server.permissions = {}
    with pytest.raises(GitHubError, match="403"):
        bring_kept_build(api, "embedder", KEY, tmp_path / "build")
    assert list(tmp_path.iterdir()) == []
