"""Installs the newest release of a library, whatever pyproject.toml allows, where the scheduled workflow tries it.

``python -m tests.helpers.newest_release LIBRARY`` prints ``changed=NAME OLD → NEW``, or nothing after ``=`` where it is
installed already. transformers is the second exporter's, all others are installed into .venv.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.helpers.second_exporter import PYTHON

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def interpreter(library: str) -> str:
    """Whose environment is changed."""
    return str(PYTHON) if library == "transformers" else sys.executable


def command(library: str) -> Sequence[str]:
    """What installs it."""
    index = ["--index-url", TORCH_INDEX] if library == "torch" else []
    names = ["optimum", "optimum-onnx"] if library == "optimum" else [library]
    return [interpreter(library), "-m", "pip", "install", "--quiet", "--upgrade", *index, *names]


def release(library: str) -> str:
    """The one that is installed."""
    program = f"import importlib.metadata; print(importlib.metadata.version({library!r}))"
    ran = subprocess.run([interpreter(library), "-P", "-c", program], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


if __name__ == "__main__":
    name = sys.argv[1]
    before = release(name)
    subprocess.run(command(name), check=True, stdout=sys.stderr)
    after = release(name)
    sys.stdout.write(f"changed={f'{name} {before} → {after}' if after != before else ''}\n")
