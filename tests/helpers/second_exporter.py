"""An environment with transformers 5 that costs little: torch, onnxruntime and all that is the same are .venv's.

Runs as a program, by ``make``: installs what is locked in another release than .venv has.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sysconfig
from pathlib import Path

from modeldrop.export.environments.exporters import TRANSFORMERS
from modeldrop.export.environments.locks import pins, read_lock

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-transformers" / "bin" / "python"


def install() -> None:
    """Fill the environment, which is there and empty."""
    others = [pin for pin in pins(read_lock(TRANSFORMERS.lock)) if not _is_here(*pin.split("=="))]
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *others]
    subprocess.run(command, check=True)
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([str(PYTHON), "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    shared = sysconfig.get_path("purelib")
    # Behind its own packages, and with the links of .venv: modeldrop is installed there as a link to this checkout.
    (Path(packages) / "shared.pth").write_text(f"import site; site.addsitedir({shared!r})\n", "utf-8")


def _is_here(name: str, release: str) -> bool:
    try:
        return importlib.metadata.version(name) == release
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    install()
