"""What set a workflow off, as the github context tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SHA = "8f3b6a2c9d1e4f5061728394a5b6c7d8e9f00112"
TOKEN = "ghs_0123456789abcdefghijABCDEFGHIJ012345"


@dataclass(frozen=True, slots=True)
class Event:
    """An event; ``fork``: of a pull request from one; ``cause``: what the run that has set this one off came from."""

    name: str = "push"
    ref: str = "refs/heads/main"
    repository: str = "acme/models"
    default_branch: str = "main"
    server: str = "https://github.com"
    private: bool = False
    fork: bool = False
    number: int = 17
    run: int = 1658821493
    cause: str = ""

    @classmethod
    def pull_request(cls, *, fork: bool = False, name: str = "pull_request") -> Event:
        """A pull request to the default branch."""
        ref = "refs/pull/17/merge" if name == "pull_request" else "refs/heads/main"
        return cls(name=name, ref=ref, fork=fork)

    @classmethod
    def workflow_run(cls, cause: str, *, fork: bool = False) -> Event:
        """After a workflow that ``cause`` has set off; it runs the default branch's code, whatever that was."""
        return cls(name="workflow_run", cause=cause, fork=fork)

    @property
    def payload(self) -> dict[str, Any]:
        """What ``github.event`` holds of it."""
        owner, _, name = self.repository.partition("/")
        repository = {
            "name": name,
            "full_name": self.repository,
            "owner": {"login": owner},
            "default_branch": self.default_branch,
            "private": self.private,
            "visibility": "private" if self.private else "public",
            "html_url": f"{self.server}/{self.repository}",
        }
        payload: dict[str, Any] = {"repository": repository, "sender": {"login": "octocat"}}
        if self.name.startswith("pull_request"):
            head = "somebody/models" if self.fork else self.repository
            payload |= {
                "number": self.number,
                "pull_request": {
                    "number": self.number,
                    "head": {"ref": "better", "sha": SHA, "repo": {"full_name": head, "fork": self.fork}},
                    "base": {"ref": self.default_branch, "repo": repository},
                },
            }
        elif self.name == "merge_group":
            payload |= {
                "action": "checks_requested",
                "merge_group": {
                    "head_sha": SHA,
                    "head_ref": self.ref,
                    "base_sha": SHA[::-1],
                    "base_ref": f"refs/heads/{self.default_branch}",
                },
            }
        elif self.name == "workflow_run":
            head = "somebody/models" if self.fork else self.repository
            run = {
                "id": 30433642,
                "name": "Checks",
                "event": self.cause,
                "status": "completed",
                "conclusion": "success",
                "head_branch": self.default_branch if self.cause in {"push", "schedule"} else "better",
                "head_sha": SHA,
                "head_repository": {"full_name": head, "fork": self.fork},
                "repository": {"full_name": self.repository},
                "pull_requests": [],  # GitHub leaves it empty for forks
            }
            payload |= {"action": "completed", "workflow_run": run, "workflow": {"name": "Checks"}}
        elif self.name == "push":
            payload |= {"ref": self.ref, "after": SHA}
        elif self.name == "workflow_dispatch":
            payload |= {"ref": self.ref, "inputs": {}}
        return payload

    def context(self) -> dict[str, Any]:
        """The fields of the github context that the event decides."""
        short = self.ref.removeprefix("refs/heads/").removeprefix("refs/tags/").removeprefix("refs/pull/")
        pull = self.name.startswith("pull_request")
        return {
            "actor": "octocat",
            "actor_id": "583231",
            "api_url": "https://api.github.com" if self.server == "https://github.com" else f"{self.server}/api/v3",
            "base_ref": self.default_branch if pull else "",
            "event": self.payload,
            "event_name": self.name,
            "graphql_url": "https://api.github.com/graphql",
            "head_ref": "better" if pull else "",
            "job": "publish",
            "ref": self.ref,
            "ref_name": short,
            "ref_protected": False,
            "ref_type": "tag" if self.ref.startswith("refs/tags/") else "branch",
            "repository": self.repository,
            "repository_id": "1296269",
            "repository_owner": self.repository.partition("/")[0],
            "repository_owner_id": "6811672",
            "retention_days": "90",
            "run_attempt": "1",
            "run_id": str(self.run),
            "run_number": "3",
            "server_url": self.server,
            "sha": SHA,
            "token": TOKEN,
            "triggering_actor": "octocat",
            "workflow": "Publish",
            "workflow_ref": f"{self.repository}/.github/workflows/publish.yml@{self.ref}",
            "workflow_sha": SHA,
        }
