from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import UsageError
from modeldrop.runtime.execute import execute, variable_name
from tests.builds import digest_of, environment, publish_build

if TYPE_CHECKING:
    from pathlib import Path

SAY = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], os.getpid(), "
    "{n: v for n, v in os.environ.items() if n.startswith('MODELDROP_')}]))"
)


@pytest.fixture
def published(registry: Path) -> Path:
    publish_build(registry, "a")
    publish_build(registry, "b", model="re-ranker.v2")
    return registry


def start_run(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modeldrop", "run", *map(str, arguments)],
        env=environment(PATH=os.defpath),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: object) -> tuple[int, str, str]:
    process = start_run(*arguments)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_the_program_finds_the_models_and_takes_our_place(published: Path, tmp_path: Path) -> None:
    process = start_run(
        f"{published}/embedder", f"{published}/re-ranker.v2@v1", "-d", tmp_path / "home", "--quiet",
        "--", sys.executable, "-c", SAY, "--debug", "--variant", "--", "-d", "two words", "",
    )  # fmt: skip
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    arguments, pid, variables = json.loads(output)
    assert arguments == ["--debug", "--variant", "--", "-d", "two words", ""]
    assert pid == process.pid
    folders = {
        name: str(tmp_path / "home" / model / f"v1-int8-{digest_of(published, 1, model)[7:19]}")
        for name, model in (("EMBEDDER", "embedder"), ("RE_RANKER_V2", "re-ranker.v2"))
    }
    assert variables == {f"MODELDROP_MODEL_{name}": folder for name, folder in folders.items()}


def test_its_exit_code_is_ours(published: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; sys.exit(37)"]
    code, _, errors = run(f"{published}/embedder", "-d", tmp_path / "home", "--", *program)
    assert code == 37
    assert re.fullmatch(r"embedder v1 int8: 0\.1 MB fetched and verified\n", errors)


def test_signals_reach_it(published: Path, tmp_path: Path) -> None:
    program = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(41))
print("ready", flush=True)
time.sleep(60)
"""
    process = start_run(f"{published}/embedder", "-d", tmp_path / "home", "--", sys.executable, "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 41


@pytest.mark.parametrize("end", [[], ["--"]])
def test_no_command(published: Path, tmp_path: Path, end: list[str]) -> None:
    code, output, errors = run(f"{published}/embedder", "-d", tmp_path / "home", *end)
    assert (code, output) == (UsageError.exit_code, "")
    assert errors.startswith("modeldrop: No command to run.\n  Write it after '--'")
    assert not (tmp_path / "home").exists()


def test_a_command_that_is_not_there(published: Path, tmp_path: Path) -> None:
    code, _, errors = run(f"{published}/embedder", "--quiet", "-d", tmp_path, "--", "no-such-command", "x")
    assert code == UsageError.exit_code
    assert "Could not start no-such-command: No such file or directory." in errors
    (tmp_path / "script").write_text("not executable")
    code, _, errors = run(f"{published}/embedder", "--quiet", "-d", tmp_path, "--", tmp_path / "script")
    assert code == UsageError.exit_code
    assert "script: Permission denied." in errors


def test_no_reference(published: Path) -> None:
    code, _, errors = run("--", "true")
    assert code == UsageError.exit_code
    assert "REFERENCE" in errors


def test_nothing_starts_where_a_fetch_fails(published: Path, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    code, _, errors = run(f"{published}/other", "-d", tmp_path / "home", "--", "touch", marker)
    assert code == 5
    assert "has no channel other/current" in errors
    assert not marker.exists()


def test_two_models_that_would_share_a_variable(published: Path, tmp_path: Path) -> None:
    publish_build(published, "c", model="re.ranker-v2")
    references = (f"{published}/re-ranker.v2", f"{published}/re.ranker-v2")
    code, _, errors = run(*references, "-d", tmp_path / "home", "--", "true")
    assert code == UsageError.exit_code
    assert "Two models would share the variable MODELDROP_MODEL_RE_RANKER_V2" in errors


def test_names_of_variables() -> None:
    assert variable_name("embedder") == "MODELDROP_MODEL_EMBEDDER"
    assert variable_name("all-minilm.l6_v2") == "MODELDROP_MODEL_ALL_MINILM_L6_V2"


def test_execute_says_what_it_could_not_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Could not start .*: Permission denied"):
        execute([os.fspath(tmp_path)], [])
