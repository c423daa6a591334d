"""Builds that a pull request's run has kept as artifacts: after the merge the same bytes are published.

Taken are only those that a run of this repository itself has made. Who may push a branch to it decides what is in
them; a fork's pull request may call its artifacts what it likes, and none of them is looked at.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeldrop.util.github_api import GitHubApi, GitHubError
from modeldrop.util.http import opener

_SECONDS = 60.0
_CHUNK = 1 << 20


def artifact_name(model: str, build_key: str) -> str:
    """What the artifact of a build is called."""
    return f"modeldrop.build.{model}.{build_key[:16]}"


def bring_kept_build(api: GitHubApi, model: str, build_key: str, folder: Path) -> str:
    """Bring the newest kept build of a recipe into a folder that does not exist yet; return its run's address, or "".

    The caller proves that it is the whole build of the recipe. Where there is none, nothing is made.

    Raises:
        GitHubError: the artifacts cannot be listed or downloaded, or hold something else.
    """
    name = artifact_name(model, build_key)
    found = [one for one in api.pages("/actions/artifacts", "artifacts", name=name) if _is_ours(one, name)]
    if not found:
        return ""
    newest = max(found, key=lambda one: str(one.get("created_at", "")))
    archive = folder.with_name(f".{folder.name}.zip")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        url = api.redirection(f"/actions/artifacts/{int(newest['id'])}/zip")
        with opener(url).open(url, timeout=_SECONDS) as answer, archive.open("wb") as file:
            shutil.copyfileobj(answer, file, _CHUNK)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)  # which lets no name lead out of the folder
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise GitHubError(f"The artifact {name} cannot be used: {error}.") from None
    finally:
        archive.unlink(missing_ok=True)
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{api.repository}/actions/runs/{int(newest['workflow_run']['id'])}"


def _is_ours(artifact: Mapping[str, Any], name: str) -> bool:
    """Whether it is there still, and a run of the repository itself has made it, of a branch of its own."""
    run = artifact.get("workflow_run")
    if not isinstance(run, dict) or artifact.get("name") != name or artifact.get("expired"):
        return False
    repository = run.get("repository_id")
    return repository is not None and repository == run.get("head_repository_id")
