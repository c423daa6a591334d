"""Who builds, where and from which commit, as the environment of a CI run says."""

from __future__ import annotations

import getpass
import os
import re
import time
from collections.abc import Mapping

from modeldrop.config import variable
from modeldrop.format.manifest import Provenance
from modeldrop.format.signed import BuildIdentity
from modeldrop.registry.promotion import Asked
from modeldrop.util.text import iso_time

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")


def now() -> str:
    """The present moment, ISO 8601 in UTC."""
    return iso_time(time.time())


def provenance(environment: Mapping[str, str] = os.environ) -> Provenance:
    """What the environment says about this build; understands GitHub Actions, GitLab CI and plain shells.

    ``MODELDROP_ACTOR``, ``MODELDROP_RUN``, ``MODELDROP_GIT_REPOSITORY`` and ``MODELDROP_GIT_COMMIT`` take
    precedence.
    """
    get = environment.get
    repository = commit = run = actor = ""
    if get("GITHUB_ACTIONS") == "true":
        repository = f"{get('GITHUB_SERVER_URL', '')}/{get('GITHUB_REPOSITORY', '')}"
        commit, actor = get("GITHUB_SHA", ""), get("GITHUB_ACTOR", "")
        run = f"{repository}/actions/runs/{get('GITHUB_RUN_ID', '')}"
    elif get("GITLAB_CI") == "true":
        repository, commit = get("CI_PROJECT_URL", ""), get("CI_COMMIT_SHA", "")
        run, actor = get("CI_JOB_URL", ""), get("GITLAB_USER_LOGIN", "")
    return Provenance(
        created=now(),
        repository=_clean(variable("git_repository", environment) or repository, 2048),
        commit=_clean(variable("git_commit", environment) or commit, 128),
        run=_clean(variable("run", environment) or run, 2048),
        actor=_clean(variable("actor", environment) or actor or _user(), 256),
    )


def build_identity() -> BuildIdentity:
    """What a signature says of who has built: as ``provenance``, and the workflow with the ref that it was at."""
    get, made, workflow = os.environ.get, provenance(), ""
    if get("GITHUB_ACTIONS") == "true":
        workflow = get("GITHUB_WORKFLOW_REF", "")
    elif get("GITLAB_CI") == "true":
        workflow = f"{get('CI_PROJECT_PATH', '')}//{get('CI_CONFIG_PATH', '')}@{get('CI_COMMIT_REF_NAME', '')}"
    return BuildIdentity(made.repository, _clean(workflow, 2048), made.commit, made.run)


def asked_now(environment: Mapping[str, str] = os.environ, *, proposal: bool = False) -> Asked:
    """That somebody asks at this moment, in this run; of GitLab its pipeline, which keeps its number on a retry."""
    pipeline = environment.get("CI_PIPELINE_URL", "") if environment.get("GITLAB_CI") == "true" else ""
    run = variable("run", environment) or pipeline
    return Asked(now(), _clean(run, 2048) if run else provenance(environment).run, proposal)


def _user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"


def _clean(text: str, limit: int) -> str:
    # A clone URL may carry a token before its host, and a variable bytes that are not UTF-8.
    return _USERINFO.sub("", text).encode("utf-8", "replace").decode()[:limit]
