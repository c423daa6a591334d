"""The event that triggered the workflow. It decides what is published and promoted by default."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_BYTES = 32 << 20
_DEPENDABOT = "dependabot[bot]"
# Their runs may write the caches that every other run reads, or read what strangers wrote into them.
_NO_CACHE = frozenset({"release", "pull_request_target", "workflow_run"})


@dataclass(frozen=True, slots=True)
class WorkflowEvent:
    """The event of a workflow run.

    Attributes:
        name: such as ``push``, ``schedule`` or ``pull_request``.
        ref: such as ``refs/heads/main``, or "".
        default_branch: the repository's, such as ``main``; "" where the event does not say.
        fork: whether it is a pull request from another repository.
        actor: who triggered it.
        cause: of ``workflow_run``, the event of the run that set it off; else the name.
        head_branch: of ``workflow_run``, the branch of that run.
        pull_request: the number of the pull request that the run is of; 0 where there is none, or it is not told.
        private: whether the repository is known not to be public.
    """

    name: str = ""
    ref: str = ""
    default_branch: str = ""
    fork: bool = False
    actor: str = ""
    cause: str = ""
    head_branch: str = ""
    pull_request: int = 0
    private: bool = False

    @property
    def is_pull_request(self) -> bool:
        """Whether the run is of a pull request: nothing is published unless the inputs name a channel for it."""
        return (self.cause or self.name).startswith("pull_request")

    @property
    def is_proposal(self) -> bool:
        """Whether what the run is of may never be merged: it moves no channel that the default branch uses."""
        return self.is_pull_request or (self.cause or self.name) == "merge_group"

    @property
    def description(self) -> str:
        """Its name, for people, and where it comes from."""
        caused = f"{self.name} set off by {self.cause}" if self.cause and self.cause != self.name else self.name
        return f"{caused} from a fork" if self.fork else caused

    @property
    def on_default_branch(self) -> bool:
        """Whether the run is of the default branch itself. A schedule always is, and its payload may not say so."""
        if self.is_proposal or (self.name == "workflow_run" and self.head_branch != self.default_branch):
            return False
        return self.name == "schedule" or (
            bool(self.default_branch) and self.ref == f"refs/heads/{self.default_branch}"
        )

    @property
    def without_secrets(self) -> bool:
        """Whether GitHub gives such a run neither secrets nor the right to sign in anywhere."""
        return self.name == "pull_request" and (self.fork or self.actor == _DEPENDABOT)

    @property
    def may_cache(self) -> bool:
        """Whether the run may use GitHub's cache: not where a poisoned one would reach a release."""
        return self.name not in _NO_CACHE and not self.ref.startswith("refs/tags/")


def read_event(environment: Mapping[str, str]) -> WorkflowEvent:
    """The event that the runner's variables and its payload file describe."""
    payload = _payload(environment.get("GITHUB_EVENT_PATH", ""))
    name = cause = environment.get("GITHUB_EVENT_NAME", "")
    head = _path(payload, "pull_request", "head", "repo", "full_name")
    if name == "workflow_run":
        cause = str(_path(payload, "workflow_run", "event") or "pull_request")  # unknown is the worst that it can be
        head = _path(payload, "workflow_run", "head_repository", "full_name")
    return WorkflowEvent(
        name=name,
        ref=environment.get("GITHUB_REF", ""),
        default_branch=str(_path(payload, "repository", "default_branch") or ""),
        # The fork of a pull request may have been deleted: then it has no name any more.
        fork=cause.startswith("pull_request") and head != environment.get("GITHUB_REPOSITORY", ""),
        actor=environment.get("GITHUB_ACTOR", ""),
        cause=cause,
        head_branch=str(_path(payload, "workflow_run", "head_branch") or ""),
        pull_request=_pull_request(payload, name),
        private=_path(payload, "repository", "private") is True,
    )


def _pull_request(payload: dict[str, Any], name: str) -> int:
    number = _path(payload, "pull_request", "number")
    if name == "workflow_run":
        requests = _path(payload, "workflow_run", "pull_requests")  # of a fork's there are none
        number = _path(requests[0], "number") if isinstance(requests, list) and len(requests) == 1 else None
    return number if isinstance(number, int) and number > 0 else 0


def _payload(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            payload = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):  # the last where it is nested too deeply
        return {}
    return payload if isinstance(payload, dict) else {}


def _path(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
