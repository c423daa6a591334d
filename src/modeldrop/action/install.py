"""What the action installs in the runner's temporary folder: what plans and publishes, what exports, what compares.

What plans begins with the fetcher's own client, which is enough for what has a version already. The cloud's SDK and the
Hub's client are added once something is to be uploaded or downloaded.

Where packages come from is the caller's choice (PIP_INDEX_URL and friends, pip.conf); what is installed is ours.
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from modeldrop.action import github
from modeldrop.config import variable
from modeldrop.export.environments import exporters
from modeldrop.export.environments.locks import (
    ROOT,
    declared,
    digest,
    locked_platform,
    pins,
    read_lock,
)
from modeldrop.export.environments.virtual import PipCache, VirtualEnvironment

# What compares two builds; tokenizers and onnxruntime declare more than they import for that.
_INFERENCE = frozenset({"numpy", "onnxruntime", "tokenizers"})


def install_planner(parts: Sequence[str], folder: Path, cache: PipCache) -> Path:
    """An environment that can plan, and publish what has a version already; return its interpreter.

    Args:
        parts: what else it is to have, extras of the project: ``hub``, ``s3``, ``gcs``, ``azure``, ``sign``,
            ``sigstore``.
        folder: where environments are made.
        cache: pip's.

    Raises:
        MissingExtraError: the interpreter can make no environment, or a package cannot be had.
    """
    names = _lock_names(parts)
    environment = VirtualEnvironment(folder / f"plan-{digest(''.join(map(read_lock, names)))}", github.say, cache)
    if environment.complete:
        return environment.python
    environment.make(own_pip=find_spec("pip") is None)
    environment.install_locked(names, declared(["", "action", *parts]))
    _note(environment, parts)
    # The tool itself is this checkout; no build back end is needed for that.
    (environment.packages / "modeldrop.pth").write_text(f"{ROOT / 'src'}\n", "utf-8")
    environment.finish()
    return environment.python


def missing_parts(parts: Sequence[str]) -> list[str]:
    """Which parts the environment that runs this lacks."""
    return [part for part in parts if not (Path(sys.prefix) / f".{part}").is_file()]


def add_parts(parts: Sequence[str], cache: PipCache) -> None:
    """Add what is missing of these parts to the environment that runs this.

    Raises:
        MissingExtraError: a package cannot be had.
    """
    if missing := missing_parts(parts):
        environment = VirtualEnvironment(Path(sys.prefix), github.say, cache)
        environment.install_locked(_lock_names(missing)[1:], declared(missing))
        _note(environment, missing)
        importlib.invalidate_caches()  # what could not be imported a moment ago


def _note(environment: VirtualEnvironment, parts: Sequence[str]) -> None:
    """Remember what an environment has, for ``missing_parts``."""
    for part in parts:
        (environment.folder / f".{part}").touch()


def _lock_names(parts: Sequence[str]) -> list[str]:
    return ["plan.txt", *(f"plan-{part}.txt" for part in parts)]


def signing_parts() -> list[str]:
    """What signing with MODELDROP_SIGNING_KEY needs, as parts of ``install_planner``; nothing where it is not set."""
    key = variable("signing_key")
    kms = [part for scheme, part in (("awskms:", "s3"), ("gcpkms:", "gcs")) if scheme in key]
    return kms or (["sign"] if key else [])


def install_inference(cache: PipCache) -> Path:
    """Add to the environment that runs this what runs graphs, in processes of their own; return its interpreter.

    Raises:
        MissingExtraError: a package cannot be had.
    """
    environment, lock = VirtualEnvironment(Path(sys.prefix), github.say, cache), inference_lock()
    done = environment.folder / f".inference-{digest(lock)}"
    if done.is_file():
        return environment.python
    if locked_platform():
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
            requirements.write(lock)
            requirements.flush()
            environment.install("--no-deps", "--require-hashes", f"--requirement={requirements.name}")
    else:
        environment.install("--no-deps", *pins(lock))
    done.touch()
    return environment.python


def inference_lock() -> str:
    """Of the exporter's lock, what runs graphs."""
    blocks = re.split(r"(?m)^(?=\w)", read_lock(exporters.OPTIMUM.lock))
    return "".join(block for block in blocks if block.partition("==")[0] in _INFERENCE)


def wrap_exporter(python: str, folder: Path) -> Path:
    """A launcher for an exporter that is there already: it runs this checkout's code, whatever is installed there."""
    launcher = folder / "exporter-python"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT / "src"))} exec {shlex.quote(python)} "$@"\n')
    launcher.chmod(0o755)
    return launcher
