"""Environments of the programs that load versions, of users and of exporters, and old onnxruntimes, for ``make soak``.

``python -m tests.servers.consumers`` installs each into a folder of its own below ``.consumers``, in the newest release
that can be installed: what they require excludes each other, and the exporter's libraries. About 9 GB. What is there
as it is written here stays; what is not is made anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from modeldrop.export.environments.locks import declared, pins, read_lock

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".consumers"
_TORCH = ("--retries", "1", "--index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0")
_LOCK = ("-c", str(ROOT / "requirements" / "exporter.txt"))
ENVIRONMENTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "frameworks": (
        _TORCH,
        (
            *_LOCK, "sentence-transformers[onnx]<6", "haystack-ai", "sentence-transformers-haystack",
            "langchain-huggingface", "llama-index-embeddings-huggingface",
        ),
    ),
    "light-embed": (("light-embed",),),
    "onnxruntime-genai": (("onnxruntime-genai", "onnxruntime"),),
    "openvino-genai": (("openvino-genai",),),
    # What it requires, but torchvision: that is made for another build of torch, which it would bring along.
    "optimum-intel": (
        _TORCH,
        (
            "optimum~=2.3.0", "transformers<5.6", "huggingface-hub<1.22", "nncf", "openvino", "openvino-tokenizers",
            "sentence-transformers", "setuptools", "requests",
        ),
        ("--no-deps", "optimum-intel"),
    ),
    # What users have today.
    "transformers-5": (
        _TORCH,
        ("transformers==5.24.0", "sentence-transformers==6.2.0", "huggingface_hub==2.4.0"),
    ),
}  # fmt: skip
"""What is installed, in turn, by the name of the environment."""
RELEASES = ("1.15", "1.16", "1.17", "1.18", "1.19", "1.20", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27")
"""Releases of onnxruntime that graphs are opened with, oldest first."""
WHEELS = FOLDER / "wheels"
"""What ``pip install '.[s3,hub]'`` may want, in the newest releases, and what builds it."""
EXPORTERS = FOLDER / "exporters"
"""Where ``modeldrop exporter install`` has made an environment with optimum."""
_BESIDE = "onnxruntime-needs"
_NEEDS = ("numpy<2", "protobuf", "flatbuffers", "coloredlogs", "sympy", "packaging")
"""What they import; those before 1.19 were built for numpy 1."""
_QUIETLY = ("-q", "--disable-pip-version-check", "--only-binary=:all:")
_Packages = TypeVar("_Packages")


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
    """Make what is not there as it is written above.

    Raises:
        CalledProcessError: pip failed.
    """
    _once(FOLDER / _BESIDE, _NEEDS, _install_beside)
    for release in RELEASES:
        packages = ("--no-deps", f"onnxruntime~={release}.0")
        _once(FOLDER / f"onnxruntime-{release}", packages, _install_beside)
    for name, turns in ENVIRONMENTS.items():
        _once(FOLDER / name, turns, _install_environment)
    wanted = (*declared(["", "hub", "s3"]), *pins(read_lock("wheel.txt")))
    _once(WHEELS, wanted, _download)
    # What it makes it keeps by itself, where it is what is locked.
    variables = os.environ | {"MODELDROP_EXPORTERS": str(EXPORTERS)}
    subprocess.run([sys.executable, "-m", "modeldrop", "exporter", "install", "optimum"], check=True, env=variables)


def _install_beside(folder: Path, packages: tuple[str, ...]) -> None:
    _pip(sys.executable, "--target", folder, *packages)


def _install_environment(folder: Path, turns: tuple[tuple[str, ...], ...]) -> None:
    # The pip that comes with older Pythons tries releases for half an hour where a newer one tries none in vain.
    venv.create(folder, with_pip=True, upgrade_deps=True)
    for packages in turns:
        _pip(python_of(folder.name), *packages)


def _download(folder: Path, packages: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-m", "pip", "download", *_QUIETLY, "-d", folder, *packages], check=True)


def _once(folder: Path, what: _Packages, make: Callable[[Path, _Packages], None]) -> None:
    """Make a folder, unless it was made of the same and finished."""
    note = folder / ".made-of"
    if note.exists() and note.read_text("utf-8") == repr(what):
        return
    shutil.rmtree(folder, ignore_errors=True)
    make(folder, what)
    note.write_text(repr(what), "utf-8")


def _pip(python: str | Path, *arguments: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "install", *_QUIETLY, *arguments], check=True)


if __name__ == "__main__":
    install()
