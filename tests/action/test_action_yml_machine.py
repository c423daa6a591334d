"""What the real action.yml needs of a machine, asks GitHub for, and leaves behind on it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.action.machines import USES, Machines, readable, with_weights
from tests.runner.events import Event

INPUTS = {"model": "./weights", "name": "embedder", "registry": "./registry"}
SETUP = "actions/setup-python"
CACHES = ["actions/cache/restore", "actions/cache/save"]


@pytest.fixture
def no_python(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without any Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sh"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return {"PATH": str(folder)}


def test_a_python_that_is_there_is_used(machines: Machines) -> None:
    version = "{}.{}".format(*sys.version_info)
    job = machines.job(machine={"PATH": f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{os.defpath}"})
    job.uses(USES, INPUTS | {"python-version": version, "name": "NO"})
    assert [call.action for call in job.calls] == []


@pytest.mark.parametrize("version", ["3.11", "3.12.4"])
def test_without_one_setup_python_brings_it_and_leaves_the_jobs_own_alone(
    machines: Machines, no_python: dict[str, str], version: str
) -> None:
    job = with_weights(machines.job(machine=no_python))
    result = job.uses(USES, INPUTS | {"python-version": version, "name": "NO"})
    assert [(call.action, dict(call.inputs)) for call in job.calls] == [
        (SETUP, {"python-version": version, "update-environment": "false"})
    ]
    assert result.errors[0].message.startswith("The input name is 'NO'."), "the check ran, on that Python"


@pytest.mark.parametrize("action", [USES, "modeldrop/modeldrop/setup@v0"])
def test_windows_is_refused_before_anything_is_installed(machines: Machines, action: str) -> None:
    job = machines.job(system="Windows", fresh=True)
    result = job.uses(action, {"registry": "./registry"})
    assert (result.outcome, result.exit_code, job.calls) == ("failure", 2, [])
    (error,) = result.errors
    assert (error.title, error.message.partition(" runners")[0]) == (
        "modeldrop: runner",
        "modeldrop runs on Linux and macOS",
    )
    assert not (job.temp / "modeldrop").exists()


def test_system_without_a_python_says_so(machines: Machines, no_python: dict[str, str]) -> None:
    job = machines.job(machine=no_python)
    result = job.uses(USES, INPUTS | {"python-version": "system"})
    assert result.outcome == "failure"
    assert len(result.errors) == 1
    assert "no Python 3.11 or newer" in result.errors[0].message
    assert job.calls == []


@pytest.mark.parametrize(
    ("event", "cached"),
    [
        (Event(), True),
        pytest.param(Event(name="release", ref="refs/tags/v1"), False, marks=pytest.mark.soak),
        (Event.pull_request(name="pull_request_target"), False),
    ],
    ids=["push", "release", "pull_request_target"],
)
def test_the_exporter_is_installed_only_to_build_and_cached_where_that_is_safe(
    machines: Machines, event: Event, *, cached: bool
) -> None:
    """On a machine of GitHub's own, without an exporter, and with an index that has no PyTorch."""
    job = with_weights(machines.job(event, machine={"MODELDROP_EXPORTER_PYTHON": ""}, hosted=True))
    index = job.uses(USES, INPUTS | {"torch-index": "http://127.0.0.1:9/simple"})
    assert index.outcome == "failure"
    assert index.step("exporter").outcome == "failure", index.log
    assert len(index.errors) == 1
    assert "PyTorch" in index.errors[0].message
    assert "torch-index" in index.errors[0].message
    assert set(index.outputs.values()) >= {"", "false"}
    calls = [call for call in job.calls if call.action != SETUP]
    assert [call.action for call in calls] == (CACHES[:1] if cached else [])
    assert all(call.inputs["key"].startswith("modeldrop-exporter-Linux-X64-3.") for call in calls)
    assert [path for path in job.workspace.glob("registry/**/*") if path.is_file()] == []


def test_a_job_goes_on_as_it_was(machines: Machines) -> None:
    job = with_weights(machines.job())
    ask = {"run": "env | grep -v ^GITHUB_ | grep -v ^_= | sort; ls -A"}
    before = job.step(ask)
    result = job.uses(USES, INPUTS | {"phase": "plan"})
    assert result.outcome == "success", result.log
    assert job.step(ask).log == before.log
    stay = {path.relative_to(job.home).parts[:2] for path in job.home.rglob("*")}
    assert stay <= {(".cache",), (".cache", "pip"), (".cache", "huggingface")}, "docs/action.md tells what stays"


def test_settings_of_the_caller_do_not_get_into_the_way(machines: Machines, tmp_path: Path) -> None:
    """Not another modeldrop, or json, on its path or in its folder; not what pip is to do elsewhere."""
    shadow = tmp_path / "shadow"
    for name in ("modeldrop", "json", "blake3"):
        (shadow / name).mkdir(parents=True)
        (shadow / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n", "utf-8")
    strange = {
        "PIP_PREFIX": str(tmp_path / "elsewhere"),
        "PIP_REQUIREMENT": str(tmp_path / "nothing.txt"),
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "PIP_USER": "1",
        "PYTHONPATH": str(shadow),
        "PYTHONSAFEPATH": "",
        "VIRTUAL_ENV": str(tmp_path / "elsewhere"),
    }
    job = with_weights(machines.job(fresh=True, env=strange))
    shutil.copytree(shadow, job.workspace, dirs_exist_ok=True)
    result = job.uses(USES, INPUTS | {"phase": "plan"})
    assert result.outcome == "success", result.log
    assert not (tmp_path / "elsewhere").exists()


def test_paths_start_from_the_working_directory(machines: Machines) -> None:
    job = with_weights(machines.job())
    (job.workspace / "weights").rename(job.workspace / "a folder")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = job.workspace / "a folder" / "weights"
        folder.mkdir(exist_ok=True)
        (job.workspace / "a folder" / name).rename(folder / name)
    result = job.uses(USES, INPUTS | {"phase": "plan", "working-directory": "a folder"})
    assert result.outcome == "success", result.log
    assert result.outputs["would-build"] == "true"
    assert str(job.workspace / "a folder" / "registry") in readable(result.summary)
