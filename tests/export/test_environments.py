"""The environments that modeldrop makes for exporters, and where a build looks for one. Nothing is downloaded."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop.errors import ExportError, MissingExtraError
from modeldrop.export.environments import exporters
from modeldrop.export.environments.exporters import OPTIMUM, TRANSFORMERS, exporter_lock, find_exporter
from modeldrop.export.environments.locks import locked_platform
from modeldrop.export.environments.virtual import find_uv
from modeldrop.export.messages import ReportRequest
from modeldrop.export.worker_process import run_worker
from tests.helpers.command_line import answer, run_here

UV = """#!/bin/sh
echo "$@" >> "$UV_LOG"
test ! -e "$UV_LOG.fail" || { echo "error: no such package" >&2; exit 1; }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where environments are made; this interpreter has no exporter, and nobody names another."""
    monkeypatch.setenv("MODELDROP_EXPORTERS", str(tmp_path / "exporters"))
    monkeypatch.delenv("MODELDROP_EXPORTER_PYTHON", raising=False)
    monkeypatch.setattr(exporters, "_is_here", lambda _: False)
    return tmp_path / "exporters"


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A uv on the PATH that installs nothing: what it was asked for, line by line."""
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(UV)
    program.chmod(0o755)
    log = tmp_path / "uv.log"
    monkeypatch.setenv("UV_LOG", str(log))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    return lambda: log.read_text("utf-8").splitlines()


def test_an_environment_is_made_listed_used_and_removed(folder: Path, uv: Callable[[], list[str]]) -> None:
    made = answer("exporter", "install", "transformers")
    assert find_exporter(TRANSFORMERS) == made["python"]
    assert Path(made["python"]).parents[1].parent == folder
    torch, others = uv()
    assert "--index-url=https://download.pytorch.org/whl/cpu" in torch
    if locked_platform():
        assert "--require-hashes" in torch
        assert "build-torch.txt" in torch
        assert "--require-hashes" in others
        assert "build-transformers.txt" in others
    assert answer("exporter", "install", "transformers") == made  # it is whole: nothing is installed again
    assert len(uv()) == 2
    (listed,) = answer("exporter", "ls")["environments"]
    assert (listed["exporter"], listed["state"]) == ("transformers", "ready")
    assert answer("exporter", "rm", "transformers")["removed"][0]["path"] == listed["path"]
    assert answer("exporter", "ls")["environments"] == []
    with pytest.raises(MissingExtraError, match="which is not installed here"):
        find_exporter(TRANSFORMERS)


def test_what_cannot_be_installed_is_no_environment(folder: Path, uv: Callable[[], list[str]], tmp_path: Path) -> None:
    (tmp_path / "uv.log.fail").touch()
    code, _, err = run_here("exporter", "install")
    assert code == MissingExtraError.exit_code
    assert "uv could not install PyTorch: error: no such package" in err
    assert "--torch-index" in err
    assert answer("exporter", "ls")["environments"][0]["state"] == "broken"
    with pytest.raises(MissingExtraError, match="is broken") as caught:
        find_exporter(OPTIMUM)
    assert caught.value.hint.startswith("modeldrop exporter install optimum\n")


def test_an_environment_of_another_release_is_said_with_the_command_that_mends_it(folder: Path) -> None:
    other = folder / "optimum-0123456789abcdef"
    (other / "bin").mkdir(parents=True)
    (other / "bin" / "python").symlink_to(sys.executable)
    (other / ".complete").touch()
    with pytest.raises(MissingExtraError, match="was made by another release of modeldrop") as caught:
        find_exporter(OPTIMUM)
    assert caught.value.hint.startswith("modeldrop exporter install optimum\n")
    assert answer("exporter", "ls")["environments"][0]["state"] == "outdated"


def test_an_environment_whose_python_is_gone_is_broken(folder: Path) -> None:
    gone = folder / f"optimum-{exporter_lock(OPTIMUM)}"
    (gone / "bin").mkdir(parents=True)
    (gone / "bin" / "python").symlink_to("/nowhere/python3.11")
    (gone / ".complete").touch()
    with pytest.raises(MissingExtraError, match="is broken"):
        find_exporter(OPTIMUM)


def test_the_interpreter_that_is_named_comes_first_if_it_has_what_is_wanted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    newer.write_text("#!/bin/sh\necho 5.30.1\n")
    newer.chmod(0o755)
    monkeypatch.setenv("MODELDROP_EXPORTER_PYTHON", str(newer))
    assert find_exporter(TRANSFORMERS) == find_exporter(OPTIMUM) == str(newer)
    newer.write_text("#!/bin/sh\necho 4.57.6\n")
    with pytest.raises(MissingExtraError):
        find_exporter(TRANSFORMERS)


def test_a_made_environment_runs_the_code_of_whoever_starts_it(folder: Path, tmp_path: Path) -> None:
    python = folder / "optimum-x" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (python.parents[1] / "modeldrop.json").write_text("{}")
    python.write_text(f'#!/bin/sh\necho "$PYTHONPATH" > {tmp_path}/path; ls "$PYTHONPATH" > {tmp_path}/code; exit 3\n')
    python.chmod(0o755)
    with pytest.raises(ExportError):
        run_worker("report", ReportRequest(tmp_path), type(None), tmp_path, lambda _: None, python=str(python))
    assert (tmp_path / "code").read_text() == "modeldrop\n"
    assert Path((tmp_path / "path").read_text().strip()).parent == tmp_path


def test_pip_is_taken_where_it_was_told_where_packages_come_from(uv: Callable[[], list[str]]) -> None:
    assert find_uv({}).endswith("/uv")
    assert find_uv({"PIP_INDEX_URL": "https://pypi.acme.dev/simple"}) == ""


def test_rm_wants_a_name(folder: Path) -> None:
    code, _, err = run_here("exporter", "rm")
    assert code == 2
    assert "optimum or transformers" in err
    assert json.loads(run_here("exporter", "ls", "--json")[1]) == {"environments": []}
