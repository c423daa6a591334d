"""What a worker gets to know, and what becomes of one that fails."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from modeldrop.errors import ExportError, MissingExtraError, SourceError
from modeldrop.export.own_metric import OwnMetric
from modeldrop.export.worker_process import run_worker, worker_environment
from modeldrop.export.workers import protocol

METRIC = OwnMetric(spelled="quality:accuracy", file=Path("quality.py"), module="", function="accuracy", digest="0" * 64)
KEPT = {"PATH": "/bin", "HOME": "/home/me", "TMPDIR": "/big", "LD_LIBRARY_PATH": "/lib", "OMP_NUM_THREADS": "2"}
SECRET = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_CLIENT_SECRET", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY", "OPENAI_API_KEY", "DB_PASSWORD",
    "HTTPS_PROXY", "https_proxy", "MODELDROP_REGISTRY",
    "GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY",
)  # fmt: skip


def test_nothing_that_signs_in_reaches_a_worker() -> None:
    urls = {"PIP_INDEX_URL": "https://me:s3cret@pypi.acme.dev/simple", "FEED": "see https://s3cret@acme.dev"}
    environment = worker_environment(
        KEPT | urls | dict.fromkeys(SECRET, "s3cret") | {"HOMEPAGE": "https://acme.dev/@me"}
    )
    assert "s3cret" not in " ".join(environment.values())
    assert environment["HOMEPAGE"] == "https://acme.dev/@me"
    assert environment.items() >= KEPT.items()
    assert environment["PYTHONHASHSEED"] == "0"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"


def _interpreter(folder: Path, program: str) -> str:
    """Something that stands where an exporter's interpreter would, and does what ``program`` says."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(f'import sys; {program}')}\n")
    path.chmod(0o755)
    return str(path)


def test_a_missing_library_names_the_extra(tmp_path: Path) -> None:
    python = _interpreter(tmp_path, "import no_such_library")
    with pytest.raises(MissingExtraError, match="no_such_library") as caught:
        run_worker("export", METRIC, type(None), tmp_path, print, python=python)
    assert "whl/cpu" in caught.value.hint


def test_a_crash_keeps_its_log(tmp_path: Path) -> None:
    python = _interpreter(tmp_path, "print('the reason', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ExportError, match=r"exit code 3.*the reason") as caught:
        run_worker("export", METRIC, type(None), tmp_path, print, python=python)
    log = Path(caught.value.log)
    assert caught.value.hint == f"Its whole log: {log}"
    assert log.read_text("utf-8") == "the reason\n"
    log.unlink()


def test_a_killed_worker_is_said_to_lack_memory(tmp_path: Path) -> None:
    python = _interpreter(tmp_path, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ExportError, match="memory ran out"):
        run_worker("export", METRIC, type(None), tmp_path, print, python=python)


def _raised(error: Exception, *, because: Exception | None = None) -> Exception:
    error.__cause__ = because
    return error


def test_what_a_library_said_is_explained_beside_what_failed() -> None:
    quantizer = ExportError("int8 could not be made of model.onnx: bad allocation", "Leave int8 out.")
    explained = protocol._explained(_raised(quantizer, because=MemoryError("bad allocation")))
    assert isinstance(explained, ExportError)
    assert explained.message.startswith("Memory ran out. int8 could not be made of model.onnx")
    assert "more memory" in explained.hint
    assert explained.hint.endswith("Leave int8 out.")
    bare = protocol._explained(_raised(MemoryError("no more")))
    assert isinstance(bare, ExportError)
    assert bare.message == "Memory ran out. MemoryError: no more"


def test_our_own_sentences_and_what_nobody_knows_stay_as_they_are() -> None:
    for error in (
        _raised(SourceError("The weight bad_alloc holds NaN.", "Check it.")),
        _raised(ExportError("x", "y"), because=SourceError("Opset 9 is too low")),
        _raised(ExportError("x", "y"), because=IndexError("list index out of range")),
        _raised(IndexError("list index out of range")),
    ):
        assert protocol._explained(error) is error


def test_a_worker_that_crashes_names_the_signal(tmp_path: Path) -> None:
    python = _interpreter(tmp_path, "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ExportError, match="was ended by SIGSEGV: it said nothing") as caught:
        run_worker("export", METRIC, type(None), tmp_path, print, python=python)
    Path(caught.value.hint.rpartition(" ")[2]).unlink()


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match="No such file") as caught:
        run_worker("export", METRIC, type(None), tmp_path, print, python=str(tmp_path / "python"))
    assert "MODELDROP_EXPORTER_PYTHON" in caught.value.hint
