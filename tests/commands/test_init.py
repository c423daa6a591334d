"""``modeldrop init``: what it writes, whom the roles that it prints let in, and what it leaves alone."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]

from modeldrop import __version__
from tests.helpers.command_line import Ran, ran_here
from tests.helpers.workflow_linters import check_schema, zizmor
from tests.servers.github_api import BASE, GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.runner.expressions import GitHub

SHA = "8f3b6a2c9d1e4f5061728394a5b6c7d8e9f00112"
SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
OLD = {"id": 456, "owner": {"id": 123}, "created_at": "2025-01-01T00:00:00Z", "default_branch": "trunk"}
NEW = OLD | {"created_at": "2026-08-01T00:00:00Z"}
RULES = "/repos/acme/models/actions/oidc/customization/sub"
WORKFLOW = ".github/workflows/models.yml"


@pytest.fixture
def github_api() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.documents |= {
            "/repos/acme/models": NEW,
            f"/repos/modeldrop/modeldrop/commits/v{__version__}": {"sha": SHA},
        }
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "a repository"
    for command in (
        ["init", "-q", str(folder)],
        ["-C", str(folder), "remote", "add", "origin", "git@github.com:acme/models.git"],
    ):
        subprocess.run(["git", *command], check=True)
    (folder / "below").mkdir()
    return folder


def init(folder: Path, server: GitHubServer | None, *more: str, registry: str = "s3://acme-models") -> Ran:
    """Run it below the top of a repository; without a server GitHub does not answer."""
    api = "http://127.0.0.1:9" if server is None else f"{server.url}{BASE}"
    variables = {"GITHUB_API_URL": api, "AWS_REGION": "eu-west-1", "GH_TOKEN": "", "GITHUB_TOKEN": ""}
    return ran_here(
        "init", "--registry", registry, "--model", SOURCE, *more, cwd=folder / "below", environment=variables
    )


def test_what_it_writes_and_prints(github_api: GitHubServer, repository: Path) -> None:
    ran = init(repository, github_api)
    assert ran.code == 0, ran.err
    settings = tomllib.loads((repository / "modeldrop.toml").read_text())
    assert settings["registries"]["models"] == {"url": "s3://acme-models", "region": "eu-west-1"}
    assert settings["models"]["all-minilm-l6-v2"] == {"source": SOURCE, "registry": "models"}
    text = (repository / WORKFLOW).read_text()
    assert f"modeldrop/modeldrop@{SHA} # v{__version__}" in text
    workflow: dict[Any, Any] = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert workflow[True]["push"]["branches"] == ["trunk"]
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in job["steps"])
    publisher, planner = re.findall(r'sub": "(.*)"', ran.out)
    assert publisher == "repo:acme@123/models@456:ref:refs/heads/trunk"
    assert planner == "repo:acme@123/models@456:pull_request"
    writes, reads = (ran.out.partition("# modeldrop-planner")[at] for at in (0, 2))
    assert "s3:PutObject" in writes
    assert "s3:PutObject" not in reads
    assert "git add modeldrop.toml .github/workflows/models.yml && git commit" in ran.err
    subprocess.run(["bash", "-n"], input=ran.out, text=True, check=True)


def test_nothing_is_overwritten_without_force(github_api: GitHubServer, repository: Path) -> None:
    (repository / "modeldrop.toml").write_text("# mine\n")
    ran = init(repository, github_api)
    assert ran.code == 2
    assert f"{repository / 'modeldrop.toml'}: there already" in ran.err
    assert "Nothing was written" in ran.err
    assert not (repository / WORKFLOW).exists()
    assert (repository / "modeldrop.toml").read_text() == "# mine\n"
    assert init(repository, github_api, "--force").code == 0
    assert "# mine" not in (repository / "modeldrop.toml").read_text()
    again = init(repository, github_api, "--json")
    assert (again.code, again.json["written"]) == (0, [])


@pytest.mark.parametrize(
    ("about", "rules", "prefix", "doubts"),
    [
        (NEW, None, "repo:acme@123/models@456", False),
        # Whether an old one was renamed or opted in, only those who are signed in are told.
        (OLD, None, "repo:acme/models", True),
        (OLD, {"use_default": True, "use_immutable_subject": False}, "repo:acme/models", False),
        (OLD, {"use_default": True, "use_immutable_subject": True}, "repo:acme@123/models@456", False),
        (OLD, {"use_default": True, "sub_claim_prefix": "repo:acme@123/models@456"}, "repo:acme@123/models@456", False),
        (NEW, {"use_default": False, "include_claim_keys": ["repo"]}, "repo:acme@123/models@456", True),
        (None, None, "repo:acme@OWNER_ID/models@REPOSITORY_ID", True),
    ],
)
def test_whom_github_vouches_for(
    github_api: GitHubServer, repository: Path, about: object, rules: object, prefix: str, doubts: bool
) -> None:
    github_api.documents["/repos/acme/models"] = about
    if about is None:
        del github_api.documents["/repos/acme/models"]
    if rules is not None:
        github_api.documents[RULES] = rules
    told = init(repository, github_api, "--json").json
    assert told["subjects"]["planner"] == f"{prefix}:pull_request"
    assert bool(told["doubt"]) is doubts


@pytest.mark.parametrize("registry", ["s3://acme-models/team", "gs://acme-models", "az://acmemodels/models"])
def test_each_cloud_also_without_github(github: GitHub, repository: Path, registry: str) -> None:
    ran = init(repository, None, "--name", "true", registry=registry)
    assert ran.code == 0, ran.err
    assert "gh api repos/acme/models/actions/oidc/customization/sub" in ran.out
    assert "repo:acme@OWNER_ID/models@REPOSITORY_ID:ref:refs/heads/main" in ran.out
    subprocess.run(["bash", "-n"], input=ran.out, text=True, check=True)
    workflow = repository / WORKFLOW
    assert "modeldrop/modeldrop@v0 # pin it: gh api" in workflow.read_text()
    assert not github.workflow(workflow, repository).errors
    assert check_schema("vendor.github-workflows", [workflow]) == ""
    assert [one["ident"] for one in zizmor(workflow)] == ["unpinned-uses"]
    assert ran_here("matrix", cwd=repository).json["include"][0]["registry"] == registry


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--registry", "./models"), "a workflow's machine keeps nothing"),
        (("--registry", "gs://acme-models", "--region", "eu"), "Only S3 buckets have a region"),
        (("--repository", "a b/c"), "is no repository"),
        (("--name", "No Name"), "No Name"),
        (("--region", "eu west"), "is no region"),
    ],
)
def test_what_it_refuses(repository: Path, arguments: tuple[str, ...], says: str) -> None:
    ran = init(repository, None, *arguments)
    assert (ran.code, says in ran.err) == (2, True), ran.err
    assert not (repository / "modeldrop.toml").exists()


def test_a_repository_elsewhere_must_be_named(repository: Path) -> None:
    subprocess.run(["git", "remote", "set-url", "origin", "https://gitlab.com/acme/models"], cwd=repository, check=True)
    ran = init(repository, None)
    assert (ran.code, "is on gitlab.com" in ran.err) == (2, True)
    assert init(repository, None, "--repository", "acme/models").code == 0
