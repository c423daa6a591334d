"""Run a worker: a separate process, offline, with a log that explains a crash."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Self, TypeVar

from modeldrop import errors
from modeldrop.errors import ExportError, MissingExtraError, ModeldropError
from modeldrop.export.environments.exporters import OPTIMUM, any_exporter, code_folder, is_made
from modeldrop.export.known_failures import NO_MEMORY, known_failure
from modeldrop.export.messages import Failure, WorkerEvent, WorkerRequest, from_json, to_json
from modeldrop.util.process import end, signal_name

AnswerT = TypeVar("AnswerT")

# Killed by the kernel: directly, or reported by a shell that wraps the interpreter.
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
_SECRET_NAMES = re.compile(
    r"TOKEN$|_TOKEN_|SECRET|PASSWORD|PASSWD|CREDENTIAL|_KEY$|_KEY_ID$|CONNECTION_STRING|SAS$"
    r"|^AWS_|^AZURE_|^GOOGLE_|^ACTIONS_|PROXY$|_REGISTRY$"
    # Through these files a step speaks to GitHub's runner.
    r"|^GITHUB_(ENV|PATH|OUTPUT|STATE|STEP_SUMMARY)$"
)
# A user or password in a URL, whatever the variable is called: PIP_INDEX_URL, a database's address.
_USERINFO = re.compile(r"://[^/?#\s@]+@")


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment: without credentials, proxies, registries and the files of the CI's runner.

    A worker may run code that comes with a checkpoint, so it must not get any secret. It is offline.
    """
    harmless = {
        name: value
        for name, value in environment.items()
        if not _SECRET_NAMES.search(name.upper()) and not _USERINFO.search(value)
    }
    return harmless | {
        # The same bytes in every run: a set's order reaches decoder_model_merged.onnx.
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "ORT_DISABLE_TELEMETRY": "1",  # from 1.29 on, onnxruntime reports every model it opens to Microsoft
    }


class Worker(Generic[AnswerT]):
    """One run of ``modeldrop.export.workers.<name>``, started by the constructor. Use it in a ``with`` statement.

    Leaving the statement ends the process, whatever became of it.

    Args:
        name: the worker's module.
        request: what it is to do.
        answer: the class of what it answers.
        folder: where the request, the result and the log are kept.
        python: the interpreter whose environment has the worker's libraries; "" for that of any exporter.

    Raises:
        MissingExtraError: that interpreter cannot be started.
    """

    def __init__(
        self, name: str, request: WorkerRequest, answer: type[AnswerT], folder: Path, *, python: str = ""
    ) -> None:
        python = python or any_exporter()
        self._name = name
        self._answer = answer
        self._log = folder / f"{name}.log"
        path = folder / f"{name}.request"
        path.write_text(json.dumps(to_json(request)), "utf-8")
        self._result = path.with_suffix(".result")
        own_code = {"PYTHONPATH": str(code_folder(folder))} if is_made(python) else {}
        with self._log.open("wb") as log_file:
            try:
                self._process = subprocess.Popen(
                    # -P: a torch.py in the caller's folder is not the torch that is meant.
                    [python, "-P", "-m", f"modeldrop.export.workers.{name}", str(path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log_file,
                    # Temporary files of libraries go to the checked disk, and are removed with the work.
                    env={"TMPDIR": str(folder)} | worker_environment(os.environ) | own_code,
                )
            except OSError as error:
                raise MissingExtraError(
                    f"The exporter's interpreter, {python}, cannot be started: {error.strerror}.",
                    "MODELDROP_EXPORTER_PYTHON must name the python of an environment that has modeldrop[build]; "
                    f"without it, the one is taken that `{OPTIMUM.command}` makes.",
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def result(self, on_event: Callable[[WorkerEvent], None]) -> AnswerT:
        """Wait for what it answers.

        Args:
            on_event: told everything that the worker tells meanwhile.

        Raises:
            ModeldropError: what the worker raised; ExportError if it crashed; MissingExtraError if a library is
                not installed.
        """
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        for line in self._process.stdout:
            on_event(from_json(WorkerEvent, json.loads(line)))
        code = self._process.wait()
        if code == 0 and self._result.is_file():
            plain = json.loads(self._result.read_text("utf-8"))
            if "failure" in plain:
                failure = from_json(Failure, plain["failure"])
                error: ModeldropError = getattr(errors, failure.error)(failure.message, failure.hint)
                # Shown with a traceback alone: under --debug.
                error.add_note(f"The {self._name} process says:\n{failure.details}")
                raise error
            return from_json(self._answer, plain["answer"])
        raise _crash(self._name, code, self._log)


def run_worker(
    name: str,
    request: WorkerRequest,
    answer: type[AnswerT],
    folder: Path,
    on_event: Callable[[WorkerEvent], None],
    *,
    python: str = "",
) -> AnswerT:
    """Run a worker and wait for its answer; see ``Worker``.

    Raises:
        ModeldropError: as ``Worker`` and its ``result`` do.
    """
    with Worker(name, request, answer, folder, python=python) as worker:
        return worker.result(on_event)


def _crash(name: str, code: int, log: Path) -> ExportError | MissingExtraError:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    if last.startswith("ModuleNotFoundError"):
        return MissingExtraError(
            f"Building needs a library that is not installed here: {last.rpartition('named ')[2]}.",
            f"Have an environment made for it: {OPTIMUM.command}\n"
            "  Or install it into this one, on Linux with PyTorch's CPU build first:\n"
            "    pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0\n"
            "    pip install 'modeldrop[build]'",
        )
    kept = _keep(log) if lines or code not in _KILLED else ""
    hint = f"Its whole log: {kept}" if kept else ""
    if code in _KILLED:
        message, todo = f"The {name} process was killed, most likely because memory ran out.", NO_MEMORY
    elif cause := known_failure(last):
        message, todo = f"{cause.sentence} The {name} process: {last[:300]}", cause.hint
    else:
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"failed (exit code {code})"
        message, todo = f"The {name} process {how}: {last[:300]}", ""
    error = ExportError(message, f"{todo} {hint}".strip())
    error.log = kept
    return error


def _keep(log: Path) -> str:
    descriptor, path = tempfile.mkstemp(prefix="modeldrop-", suffix=".log")
    with os.fdopen(descriptor, "wb") as file:
        file.write(log.read_bytes())
    return path
