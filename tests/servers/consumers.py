"""Environments of the programs that load versions, and old releases of onnxruntime, for ``make soak``.

``python -m tests.servers.consumers`` installs each into a folder of its own below ``.consumers``, in the newest release
that can be installed: what they require excludes each other, and the exporter's libraries. About 4 GB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".consumers"
ENVIRONMENTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "onnxruntime-genai": (("onnxruntime-genai", "onnxruntime"),),
    "openvino-genai": (("openvino-genai",),),
    "optimum-intel": (
        ("--retries", "1", "--index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0"),
        ("optimum-intel[openvino]", "sentence-transformers<6", "openvino-tokenizers"),
        ("langchain-core",),
        ("--no-deps", "langchain-huggingface"),  # resolved with the above, pip tries releases for half an hour
    ),
}
"""What is installed, in turn, by the name of the environment."""
RELEASES = ("1.15", "1.16", "1.17", "1.18", "1.19", "1.20", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27")
"""Releases of onnxruntime that graphs are opened with, oldest first."""
_BESIDE = "onnxruntime-needs"
_NEEDS = ("numpy<2", "protobuf", "flatbuffers", "coloredlogs", "sympy", "packaging")
"""What they import; those before 1.19 were built for numpy 1."""


def python_of(name: str) -> Path:
    """The interpreter of an environment.

    Raises:
        RuntimeError: it was not installed.
    """
    found = FOLDER / name / "bin" / "python"
    if not found.exists():
        raise RuntimeError(f"{found} is not there: `make soak` installs it, or python -m tests.servers.consumers.")
    return found


def with_onnxruntime(release: str) -> Mapping[str, str]:
    """The variables with which this interpreter imports a release of onnxruntime and nothing of its own folder.

    Raises:
        RuntimeError: it was not installed.
    """
    folder = FOLDER / f"onnxruntime-{release}"
    if not folder.exists():
        raise RuntimeError(f"{folder} is not there: `make soak` installs it, or python -m tests.servers.consumers.")
    return {"PYTHONPATH": os.pathsep.join(map(str, (folder, FOLDER / _BESIDE))), "ORT_DISABLE_TELEMETRY": "1"}


def install() -> None:
    """Make all of them anew.

    Raises:
        CalledProcessError: pip failed.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    _pip(sys.executable, "--target", FOLDER / _BESIDE, *_NEEDS)
    for release in RELEASES:
        _pip(sys.executable, "--no-deps", "--target", FOLDER / f"onnxruntime-{release}", f"onnxruntime~={release}.0")
    for name, turns in ENVIRONMENTS.items():
        venv.create(FOLDER / name, with_pip=True)
        for packages in turns:
            _pip(python_of(name), *packages)
    # What comes with optimum-intel is made for another build of torch, and transformers fails to import it.
    subprocess.run([python_of("optimum-intel"), "-m", "pip", "uninstall", "-q", "-y", "torchvision"], check=True)


def _pip(python: str | Path, *arguments: str | Path) -> None:
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    install()
