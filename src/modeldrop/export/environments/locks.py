"""What is installed: the lock files, and the requirements they were made of.

On Linux, x86-64 and CPython 3.11 everything is locked with its hashes; elsewhere the same versions are taken.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from modeldrop.format.names import hex_digest

ROOT = Path(__file__).resolve().parents[4]
"""The checkout, where this is one: its ref is the version of the tool."""
_INSTALLED = Path(__file__).parent / "locks"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s+;]+)", re.MULTILINE)
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w.-]+)['\"]")


def lock_file(name: str) -> Path:
    """Where a lock file is: in the checkout, else beside this module, where a wheel has those of the exporters."""
    inside = _INSTALLED / name
    return inside if inside.is_file() else ROOT / "requirements" / name


def read_lock(name: str) -> str:
    """What a lock file says."""
    return lock_file(name).read_text("utf-8")


def pins(locks: str) -> list[str]:
    """``name==version`` of lock files, without hashes and without the mark of PyTorch's CPU build."""
    return list(dict.fromkeys(f"{name}=={version}" for name, version in _PIN.findall(locks)))


def declared(extras: Sequence[str]) -> list[str]:
    """The requirements of some of the project's extras; "" stands for what it always needs."""
    project = ROOT / "pyproject.toml"
    if project.is_file() and not _INSTALLED.is_dir():
        plain = tomllib.loads(project.read_text("utf-8"))["project"]
        wanted = {"": plain["dependencies"], **plain["optional-dependencies"]}
        return [requirement for extra in extras for requirement in wanted[extra]]
    found = []
    for line in importlib.metadata.requires("modeldrop") or ():
        requirement, _, marker = line.partition(";")
        extra = _EXTRA.search(marker)
        if (extra[1] if extra else "") in extras:
            found.append(requirement.strip())
    return found


def digest(text: str) -> str:
    """What tells environments apart: of this interpreter's release and what was locked."""
    return hex_digest(f"{sys.version} {text}".encode())[:16]


def locked_platform() -> bool:
    """Whether the lock files' hashes are those of this platform's packages."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] == (3, 11)
        and sys.platform == "linux"
        and platform.machine() == "x86_64"
        and platform.libc_ver()[0] == "glibc"
    )
