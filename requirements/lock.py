"""Write the lock files of the GitHub Action and the Dockerfile: for Linux and CPython 3.11, with hashes. ``make lock``.

One file per part, so that a run installs no more than it needs. All are for x86-64; what the fetcher's image installs
is for 64-bit Arm as well. Where the action runs on another platform it takes the versions from these files and leaves
the hashes out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
EXPORTER = HERE / "exporter.txt"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# Oldest glibc first asked for: what runs on it runs on every runner of today.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
MARKERS = {
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "sys_platform": "linux",
    "platform_system": "Linux",
}
# actions-toolkit declares PyGithub for a module that is not used here; it would bring 30 MB beside the credentials.
UNUSED = {("actions-toolkit", "pygithub")}
PARTS = {
    "plan.txt": ("", "action"),
    "plan-hub.txt": ("hub",),
    "plan-s3.txt": ("s3",),
    "plan-gcs.txt": ("gcs",),
    "plan-azure.txt": ("azure",),
    "plan-sign.txt": ("sign",),
    "plan-sigstore.txt": ("sigstore",),
    "build.txt": ("build",),
    "build-transformers.txt": ("build-transformers",),
    "fetch.txt": ("",),
    "wheel.txt": ("build-system",),
}
# Of the pins in exporter.txt, those that are not for an environment of transformers 5.
OWN_PINS = {"build-transformers.txt": ("transformers", "tokenizers", "huggingface_hub")}
ON_ARM_TOO = ("fetch.txt", "wheel.txt")


def main() -> None:
    """Resolve every part and write its file."""
    pyproject = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))
    project = pyproject["project"]
    wanted = {
        "": project["dependencies"],
        "build-system": pyproject["build-system"]["requires"],
        **project["optional-dependencies"],
    }
    for name, extras in PARTS.items():
        roots = [requirement for extra in extras for requirement in wanted[extra]]
        locked: dict[str, set[str]] = {}
        for machine in ("x86_64", "aarch64") if name in ON_ARM_TOO else ("x86_64",):
            for package, digest in _closure(
                [Requirement(root) for root in roots], _resolve(roots, machine, name)
            ).items():
                locked.setdefault(package, set()).add(digest)
        torch = {package: digests for package, digests in locked.items() if package.startswith("torch==")}
        if torch:  # it comes from PyTorch's own index, which has no place beside another one
            _write(HERE / "build-torch.txt", torch)
        _write(HERE / name, {package: digests for package, digests in locked.items() if package not in torch})


def _write(path: Path, locked: dict[str, set[str]]) -> None:
    machines = "x86-64 and 64-bit Arm" if path.name in ON_ARM_TOO else "x86-64"
    lines = [f"# Written by `make lock`, for Linux on {machines} and CPython 3.11.\n"]
    for package, digests in sorted(locked.items()):
        hashes = " \\\n    ".join(f"--hash=sha256:{digest}" for digest in sorted(digests))
        lines.append(f"{package} \\\n    {hashes}\n")
    path.write_text("".join(lines), "utf-8")
    print(f"{path.name}: {len(locked)}")


def _resolve(requirements: list[str], machine: str, name: str) -> dict[str, dict[str, Any]]:
    """What pip would install, by canonical name."""
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        kept = [line for line in EXPORTER.read_text("utf-8").splitlines() if not _is_own(line, name)]
        constraints.write_text("\n".join(kept), "utf-8")
        platforms = [f"--platform={platform}_{machine}" for platform in PLATFORMS]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=abi3"]
        command += ["--abi=none", *platforms, f"--target={folder}/none", f"--constraint={constraints}"]
        if any(requirement.startswith("torch") for requirement in requirements):
            command += ["--retries=1", f"--extra-index-url={TORCH_INDEX}"]
        environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull}
        subprocess.run([*command, f"--report={report}", *requirements], check=True, env=environment)
        installs = json.loads(report.read_text("utf-8"))["install"]
    return {canonicalize_name(item["metadata"]["name"]): item for item in installs}


def _is_own(line: str, name: str) -> bool:
    return line.partition("==")[0] in OWN_PINS.get(name, ())


def _closure(roots: list[Requirement], found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Digest by ``name==version``, of what ``roots`` need and what that needs."""
    locked: dict[str, str] = {}
    waiting = roots
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        metadata = found[name]["metadata"]
        locked[f"{name}=={metadata['version']}"] = found[name]["download_info"]["archive_info"]["hashes"]["sha256"]
        for text in metadata.get("requires_dist", []):
            needed = Requirement(text)
            if (name, canonicalize_name(needed.name)) in UNUSED:
                continue
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({**MARKERS, "extra": extra}) for extra in extras):
                waiting.append(needed)
    return locked


if __name__ == "__main__":
    main()
