"""What a reader's shell starts: modeldrop, python, or nothing where the real program cannot run here.

``python -m tests.docs.program_stubs PROGRAM ARGUMENT...`` notes the command in $DOCS_LOG. Four things are different
from what a page shows: a watch ends as soon as it follows; where $DOCS_PREBUILT names a registry, a publish also
publishes there, so that what was built once is copied from it the next time; no gigabytes are installed; and two kinds
of sources are only planned: a module of one's own, which tests/export/models/test_torch_module.py publishes as its page
shows, and, except in ``make soak``, what lies in a bucket, for which tests/export has tests of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.helpers.rounds import TEST_ROUNDS

_FOLLOWS = "is in use"


def main(program: str, arguments: Sequence[str]) -> int:
    with Path(os.environ["DOCS_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps([program, *arguments]) + "\n")
    if program == "python":
        return python(list(arguments))
    if program == "modeldrop":
        return modeldrop(list(arguments))
    return run_stub(program, list(arguments))


def python(arguments: list[str]) -> int:
    if arguments == ["-m", "modelservice"]:  # tests/service starts it, and asks it
        models = [name for name in os.environ if name.startswith("MODELDROP_MODEL_")]
        return 0 if models else 1
    return become([sys.executable, *arguments])


def modeldrop(arguments: list[str]) -> int:
    if arguments[0] == "publish" and is_planned(arguments[1]):
        arguments[0] = "plan"
    command = [sys.executable, "-m", "modeldrop", *arguments]
    if arguments[0] == "watch":
        return watch(command)
    if arguments[:2] == ["exporter", "install"]:
        return 0
    prebuilt = os.environ.get("DOCS_PREBUILT")
    if arguments[0] == "publish" and prebuilt:
        command += ["--also", prebuilt]
    return become(command)


def is_planned(source: str) -> bool:
    """Whether it is not built."""
    return source.startswith("python:") or ("://" in source and TEST_ROUNDS != "all")


def become(command: list[str]) -> NoReturn:
    os.execv(command[0], command)


def watch(command: Sequence[str]) -> int:
    """Watch until the first version is in use, then end it as an orchestrator does."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.write(line)
        if _FOLLOWS in line:
            process.send_signal(signal.SIGTERM)
    return process.wait()


def run_stub(program: str, arguments: list[str]) -> int:
    for word in arguments:
        if word.startswith("file://"):
            assert Path(word.removeprefix("file://")).is_file(), f"{program} would not find {word}"
    if program == "jq":
        [option, field] = arguments
        assert option == "-r"
        sys.stdout.write(json.load(sys.stdin)[field.removeprefix(".")] + "\n")
    if program == "docker" and arguments[0] == "run":
        image = next(index for index, word in enumerate(arguments) if word in {"modeldrop", "modeldrop-builder"})
        return subprocess.call(["modeldrop", *arguments[image + 1 :]])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
