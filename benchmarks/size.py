"""What a container pays in megabytes: the package and all it depends on, without extras.

A fresh virtual environment gets ``pip install`` of this project's folder, from the package index that pip
is set up with. Counted are the bytes (not disk blocks) of the files that are in its site-packages
afterwards and were not before, except those of pip and setuptools; once as pip leaves them, once without
``.pyc`` files (``pip install --no-compile``). MB are 10^6 bytes. There is no peer.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from benchmarks.result import Row
from benchmarks.workspace import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.workspace import Workspace

_MEGABYTES = 20
_TOOLS = re.compile(r"(pip|setuptools|pkg_resources|_distutils_hack|wheel)(-.*)?")


def run(workspace: Workspace) -> list[Row]:
    environment = workspace.folder / "fresh"
    workspace.wall([sys.executable, "-m", "venv", str(environment)])
    packages = next((environment / "lib").glob("python*/site-packages"))
    before = files(packages)
    python = str(environment / "bin" / "python")
    # Whatever PYTHONPATH leads to must not look installed already.
    pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet", str(ROOT)]
    workspace.wall(pip, {"PYTHONPATH": ""})
    added = {path: size for path, size in files(packages).items() if path not in before}
    whole = sum(added.values()) / 1e6
    bare = sum(size for path, size in added.items() if path.suffix != ".pyc") / 1e6
    target = f"≤ {_MEGABYTES} MB"
    return [
        Row("installed", whole, target, whole <= _MEGABYTES, unit="MB", digits=1),
        Row("installed, without .pyc", bare, target, bare <= _MEGABYTES, unit="MB", digits=1),
    ]


def files(packages: Path) -> dict[Path, int]:
    """Size of every file by its path, without those of the tools that install."""
    return {
        path: path.stat().st_size
        for path in packages.rglob("*")
        if path.is_file() and not _TOOLS.fullmatch(path.relative_to(packages).parts[0])
    }
