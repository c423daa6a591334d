"""Starts the exporter's workers as forks of processes that have imported what they import.

A small model is exported in a second, once torch, transformers and optimum are imported, which takes ten. What is
forked runs the same program on the same request, with the caller's environment, folder and descriptors. It has one
processor, for threads that wait for each other take longer over a small model than one alone, and measures speed with
the fewest calls, for no test looks at how fast a model is. There is a process for each kind of worker: what one kind
imports, another may not have loaded. A worker that is to run with other settings, as another user or within other
limits than the process it would be forked from, one that runs code of a checkpoint, and every other program is started
as if all this was not there.

Runs as a program: ``serve SOCKET KIND OWNER``, which answers until the process OWNER ends, and, in an interpreter's
place, ``ask FOLDER PYTHON ARGUMENTS...``, where the folder has a socket called as each kind. ``ask-timed`` is the same,
but that speed is measured as everywhere else.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import resource
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple, NoReturn

WORKERS = "modeldrop.export.workers."
"""How the names of their modules begin."""
LIGHT = (
    "modeldrop.export.models.generic.worker",
    "modeldrop.export.models.shared.reference",
    "modeldrop.export.quantizers.dynamic",
    "modeldrop.export.quantizers.merged_decoder",
    "modeldrop.export.quantizers.optimized",
    "modeldrop.export.quantizers.weight_only",
    "modeldrop.export.report",
    "modeldrop.inference.metrics",
    "tokenizers",
)
TORCH = (
    "modeldrop.export.models.shared.optimum_export",
    "modeldrop.export.models.shared.loaded_model",
    "optimum.onnxruntime",
    "safetensors.torch",
)
KINDS = {
    "light": LIGHT,
    "openvino": (*LIGHT, "modeldrop.export.quantizers.openvino"),
    "scikit-learn": (*LIGHT, "skl2onnx"),
    "torch": TORCH,
}
"""What each kind of worker imports, and what that imports."""
TIMING = "modeldrop.export.models.shared.timing"
SETTINGS = (
    "ACCELERATE_", "ATEN_", "CUDA_", "GOMP_", "HF_HUB_", "KMP_", "LC_", "LD_", "MALLOC_", "MKL_", "NUMEXPR_", "OMP_",
    "ONNX", "OPENBLAS_", "ORT_", "PYTHON", "PYTORCH_", "TOKENIZERS_", "TORCH", "TRANSFORMERS_", "TZ", "USE_",
)  # fmt: skip
"""How the variables begin that Python, the C library and what such a worker imports read when they start."""
NEUTRAL = (
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR",
    "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED",
)  # fmt: skip
"""Those that change nothing in a worker; the first three torch sets when it is imported, in tests too."""
OURS = [str(ROOT := Path(__file__).parents[2]), str(ROOT / "src")]
"""Folders that PYTHONPATH may name: everything is imported from there anyway."""
LIMITS = sorted(value for name, value in vars(resource).items() if name.startswith("RLIMIT_"))
NO_FORK = "none"


class Start(NamedTuple):
    """What is to be run, and how."""

    circumstances: list[object]
    arguments: list[str]
    variables: dict[str, str]
    folder: str
    umask: int
    timed: bool


def circumstances() -> list[object]:
    """What a process gets from whoever starts it, and a fork from the process that it copies."""
    variables = {name: os.environ[name] for name in os.environ if name.startswith(SETTINGS) and name not in NEUTRAL}
    path = variables.pop("PYTHONPATH", "").split(os.pathsep)
    elsewhere = [folder for folder in path if folder and folder not in OURS]
    limits = [list(resource.getrlimit(limit)) for limit in LIMITS]
    return [variables, elsewhere, os.getuid(), os.getgid(), str(Path("/proc/self/ns/mnt").readlink()), limits]


def ask(folder: str, python: str, *arguments: str, timed: bool = False) -> NoReturn:
    """Run a worker in a fork and end as it does, or become what was asked for."""
    kind = _kind_of(*arguments[2:4]) if arguments[:2] == ("-P", "-m") and arguments[2].startswith(WORKERS) else ""
    if kind:
        umask = os.umask(0)
        os.umask(umask)
        start = Start(circumstances(), list(arguments[2:]), dict(os.environ), str(Path.cwd()), umask, timed)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{folder}/{kind}")
            socket.send_fds(connection, [b"."], [0, 1, 2])
            connection.sendall(json.dumps(start).encode() + b"\n")
            answer = connection.makefile().read()
        if answer != NO_FORK:
            end_as(int(answer))
    os.execv(python, [python, *arguments])


def end_as(code: int) -> NoReturn:
    """End with an exit code, or by a signal."""
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _kind_of(module: str, path: str) -> str:
    """The kind of a worker; "" for one that is not forked."""
    request = json.loads(Path(path).read_text("utf-8"))
    name = module.removeprefix(WORKERS)
    if name in {"adopt", "adopt_openvino", "export"}:
        return "" if request["checkpoint"].get("trust_remote_code") else "torch"
    if name == "generic":
        return "scikit-learn" if request["generic"]["framework"] == "scikit-learn" else "light"
    if name in {"quantize", "search"}:
        return "openvino" if any(variant.startswith("openvino") for variant in request["variants"]) else "light"
    return "light" if name in {"report", "verify"} else ""


def serve(address: str, kind: str, owner: str) -> None:
    """Fork a worker for everybody who connects, until the owner ends; then remove the socket's folder.

    This goes on in a process of its own, and returns when that can be asked.
    """
    own = json.loads(json.dumps(circumstances()))
    processors = itertools.cycle(sorted(os.sched_getaffinity(0)))
    selector = selectors.DefaultSelector()

    def accept() -> None:
        connection, _ = listener.accept()
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
        start = Start(*json.loads(connection.makefile().readline()))
        if start.circumstances == own:
            for name in KINDS[kind]:
                importlib.import_module(name)
            if kind == "light":
                templates = importlib.import_module("modeldrop.export.report").environment()
                for name in templates.list_templates():
                    templates.get_template(name)
            gc.freeze()  # no fork looks for garbage among what is imported, and so copies its pages
            processor = next(processors)
            process = os.fork()
            if not process:
                os.sched_setaffinity(0, {processor})
                _become(start, descriptors)
            ended = os.pidfd_open(process)
            selector.register(ended, selectors.EVENT_READ, lambda: answer(connection, ended, process))
            # Whoever asks says no more: what can be read is its end.
            selector.register(connection, selectors.EVENT_READ, lambda: kill(connection, process))
        else:
            connection.sendall(NO_FORK.encode())
            connection.close()
        for descriptor in descriptors:
            os.close(descriptor)

    def kill(connection: socket.socket, process: int) -> None:
        selector.unregister(connection)
        os.kill(process, signal.SIGKILL)  # not waited for yet, it has its number still

    def answer(connection: socket.socket, ended: int, process: int) -> None:
        with contextlib.suppress(KeyError):
            selector.unregister(connection)
        selector.unregister(ended)
        os.close(ended)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with connection, contextlib.suppress(BrokenPipeError):
            connection.sendall(str(code).encode())

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ, accept)
        selector.register(os.pidfd_open(int(owner)), selectors.EVENT_READ, sys.exit)
        if os.fork():
            return
        try:
            while True:
                selector.select()[0][0].data()  # one at a time: it may end what another is about
        finally:
            shutil.rmtree(Path(address).parent, ignore_errors=True)  # as the others do


def _become(start: Start, descriptors: list[int]) -> NoReturn:
    """Be the worker, in a fork: nothing of ``serve`` comes after it."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(3, 1 << 16)
        os.environ.clear()
        os.environ.update(start.variables)
        os.chdir(start.folder)
        os.umask(start.umask)
        tempfile.tempdir = None
        if not start.timed:
            vars(importlib.import_module(TIMING)).update(WARM_UP_SECONDS=0, BUDGET_SECONDS=0, MIN_CALLS=1)
        sys.argv = start.arguments
        runpy.run_module(start.arguments[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] in {"ask", "ask-timed"}:
        ask(*sys.argv[2:], timed=sys.argv[1] == "ask-timed")
    else:
        serve(*sys.argv[2:])
