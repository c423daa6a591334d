"""release.yml: its last job, run against a `gh` that notes what it is asked, in every state that a run may leave."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.action.machines import ROOT

GH = r"""#!/bin/bash
printf '%s\n' "$*" >> "$ASKED"
case "$*" in
  "release view"*) test -n "$STATE" && echo "$STATE" ;;
  *releases/tags/*) echo true ;;
  *matching-refs*) printf 'refs/tags/v0.9.0\nrefs/tags/v0.10.0\nrefs/tags/v0.10.0-rc1\n' ;;
  *installation" "*--jq*id*) echo 7 ;;
  *access_tokens*) echo ghs_app ;;
  *" PATCH "*) test "$MAJOR" = there ;;
  *actions/workflows/*) echo "$STATE" ;;
esac
"""
NAMES = {"publish": "Publish the release", "move": "Move the major tag", "green": "CI was green on this very commit"}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True)
    return made.stdout


def run_step(tmp_path: Path, name: str, **environment: str) -> tuple[int, str, list[str]]:
    """A step of release.yml: its exit code, what it printed, and what it asked of gh."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text("utf-8"))["jobs"]
    (script,) = [step["run"] for job in jobs.values() for step in job["steps"] if step.get("name") == NAMES[name]]
    (tmp_path / "dist").mkdir(exist_ok=True)
    (tmp_path / "dist/one.whl").touch()
    gh, asked = tmp_path / "gh", tmp_path / "asked"
    gh.write_text(GH)
    gh.chmod(0o755)
    asked.write_text("")
    known = {
        "ASKED": str(asked),
        "GH_REPO": "acme/m",
        "GITHUB_REPOSITORY": "acme/m",
        "GITHUB_SHA": "c0ffee",
        "STATE": "",
    }
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **known, "TAG": "v0.10.0", **environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, asked.read_text().splitlines()


@pytest.mark.parametrize(
    ("state", "does"),
    [("", ["create", "upload", "edit"]), ("true", ["upload", "edit"]), ("false", [])],
    ids=["first run", "cut while a draft", "published"],
)
def test_a_release_is_published_once_it_is_whole(state: str, does: list[str], tmp_path: Path) -> None:
    code, said, asked = run_step(tmp_path, "publish", STATE=state)
    assert (code, said) == (0, "")
    words = [line.split()[1] for line in asked if line.startswith("release ")]
    assert words == ["view", *does]
    assert not does or asked[-2].endswith("--draft=false")


def test_the_major_tag_moves_with_a_token_that_may_touch_workflows(tmp_path: Path, key: str) -> None:
    app = {"APP_ID": "1", "APP_KEY": key, "READING": "ghs_reading", "MAJOR": "there"}
    code, said, asked = run_step(tmp_path, "move", **app)
    assert (code, said) == (0, "::add-mask::ghs_app\n")
    (wanted,) = [line for line in asked if "access_tokens" in line]
    assert "permissions[workflows]=write" in wanted
    assert "repositories[]=m" in wanted
    assert "PATCH repos/acme/m/git/refs/tags/v0 " in asked[-1]
    assert "Bearer ghs_app" in asked[-1]
    code, _, asked = run_step(tmp_path, "move", **app | {"MAJOR": ""})
    assert (code, "POST repos/acme/m/git/refs " in asked[-1]) == (0, True)  # the first release of that major


def test_the_major_tag_never_moves_back(tmp_path: Path) -> None:
    code, said, asked = run_step(tmp_path, "move", TAG="v0.9.0", APP_ID="", APP_KEY="", READING="ghs_reading")
    assert (code, said) == (0, "v0 stays: v0.10.0 is newer than v0.9.0.\n")
    assert len(asked) == 1
    code, said, _ = run_step(tmp_path, "move", APP_ID="", APP_KEY="", READING="ghs_reading")
    assert (code, "RELEASE_APP_KEY" in said) == (1, True)


@pytest.mark.parametrize("conclusion", ["success", "failure", "missing, or still running"])
def test_nothing_is_released_that_ci_has_not_passed(conclusion: str, tmp_path: Path) -> None:
    code, said, asked = run_step(tmp_path, "green", STATE=conclusion)
    assert (code == 0) == (conclusion == "success")
    assert code == 0 or conclusion in said
    assert "head_sha=c0ffee" in asked[0]
