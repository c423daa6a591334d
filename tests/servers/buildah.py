"""Images without a Docker engine or a registry of images: buildah on a base that debootstrap makes.

The base stands in for python:3.11-slim-bookworm and has the same shape: Python 3.11 with pip below /usr/local on
Debian 12. What a build installs comes from a folder of wheels on 127.0.0.1, downloaded before with their hashes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("buildah", "debootstrap")
BASE = "localhost/python:3.11"
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def need_packages() -> None:
    """Refuse to start without the programs.

    Raises:
        RuntimeError: they are not installed, or this is not root; it says what to do.
    """
    missing = [name for name in PACKAGES if shutil.which(name) is None]
    if missing:
        raise RuntimeError(
            f"No {' or '.join(missing)} here: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
        )
    if os.geteuid():
        raise RuntimeError("debootstrap and buildah's chroot isolation want root.")


@dataclass(frozen=True)
class Done:
    """What a command in a container did."""

    code: int
    out: str
    err: str


class Images:
    """Builds images and runs containers of them; all of it below ``folder``."""

    def __init__(self, folder: Path) -> None:
        need_packages()
        self._folder = folder
        self._wheels = folder / "wheels"
        self._wheels.mkdir()
        handler = partial(_Quiet, directory=str(self._wheels))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self._pip = folder / "pip.conf"
        url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._pip.write_text(f"[global]\nno-index = true\nfind-links = {url}\n", "utf-8")
        self._import_base()

    def close(self) -> None:
        """Stop the server, and remove what takes gigabytes."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._buildah("rm", "--all")
        shutil.rmtree(self._folder, ignore_errors=True)

    def download(self, *locks: str) -> None:
        """Bring what lock files name, as this machine's pip is set up to find it."""
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", f"--dest={self._wheels}"]
        for lock in locks:
            index = ["--retries=1", f"--index-url={_TORCH_INDEX}"] if "torch" in lock else []
            _run([*command, *index, "-r", str(ROOT / "requirements" / lock)])

    def gather(self, project: Path, *requirements: Path) -> None:
        """Build a project's wheel, and bring what requirements name that is not it, with what that needs in turn."""
        pip = [sys.executable, "-m", "pip"]
        _run([*pip, "wheel", "--quiet", "--no-deps", f"--wheel-dir={self._wheels}", str(project)])
        files = [option for path in requirements for option in ("-r", str(path))]
        _run([*pip, "download", "--quiet", "--only-binary=:all:", f"--dest={self._wheels}",
              f"--find-links={self._wheels}", *files])  # fmt: skip

    def build(self, name: str, *options: str, context: Path = ROOT) -> None:
        """Build an image."""
        self._buildah(
            "build", "--isolation=chroot", "--pull-never", "--format=docker", f"--build-arg=PYTHON_IMAGE={BASE}",
            f"--secret=id=pip,src={self._pip}", f"--tag={name}", *options, str(context),
        )  # fmt: skip

    def settings(self, name: str) -> dict[str, Any]:
        """An image's configuration, as Docker writes it."""
        found: dict[str, Any] = json.loads(self._buildah("inspect", "--type=image", name))["Docker"]["config"]
        return found

    def start(self, name: str, *options: str) -> str:
        """A container of an image."""
        return self._buildah("from", "--pull-never", *options, name).strip()

    def tree(self, container: str) -> Path:
        """A container's root."""
        return Path(self._buildah("mount", container).strip())

    def digest(self, name: str) -> str:
        """An image's digest."""
        found: str = json.loads(self._buildah("inspect", "--type=image", name))["FromImageDigest"]
        return found

    def command(self, container: str, *command: str, options: Sequence[str] = ()) -> list[str]:
        """What runs a command in a container, as its user; the network is this machine's."""
        return [*self._command("run"), "--isolation=chroot", *options, container, "--", *command]

    def run(self, container: str, *command: str, options: Sequence[str] = ()) -> Done:
        """Run a command in a container, and wait for its end."""
        done = subprocess.run(
            self.command(container, *command, options=options),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        said = re.sub(r"^(?:subprocess exited|Error: exit) .*\n?", "", done.stderr, flags=re.MULTILINE)
        return Done(done.returncode, done.stdout, said)

    def _import_base(self) -> None:
        base = self._folder / "base"
        include = "--include=ca-certificates,python3-minimal,python3-venv"
        _run(["debootstrap", "--variant=minbase", include, "bookworm", str(base)])
        _run(["chroot", str(base), "/usr/bin/python3", "-m", "venv", "/usr/local"])
        container = self._buildah("from", "scratch").strip()
        self._buildah("add", "--quiet", container, str(base), "/")
        self._buildah("config", "--env=PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        self._buildah("commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(base)

    def _command(self, verb: str) -> list[str]:
        places = [f"--root={self._folder}/storage", f"--runroot={self._folder}/running"]
        return ["buildah", "--storage-driver=vfs", *places, verb]

    def _buildah(self, verb: str, *arguments: str) -> str:
        return _run([*self._command(verb), *arguments])


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"[-8000:])
    return done.stdout
