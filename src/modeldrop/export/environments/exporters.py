"""The environments of the exporters: made in the user's cache, listed, removed, and found for a build.

A build looks for an exporter in this order: the interpreter that MODELDROP_EXPORTER_PYTHON names, the environment that
``modeldrop exporter install`` has made, the interpreter that runs modeldrop.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modeldrop._version import __version__
from modeldrop.config import exporters_folder, variable
from modeldrop.errors import DiskError, MissingExtraError
from modeldrop.export.environments.locks import declared, digest, lock_file, locked_platform, pins, read_lock
from modeldrop.export.environments.virtual import PIP_CACHE, PipCache, VirtualEnvironment
from modeldrop.storage.errors import redact

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""The package index that has PyTorch's build for processors alone."""
_TORCH = "build-torch.txt"
_NOTE = "modeldrop.json"
_SECONDS = 60.0  # a busy machine starts Python slowly, and nobody waits unless it hangs


@dataclass(frozen=True, slots=True)
class Exporter:
    """A library that makes graphs of weights.

    Attributes:
        name: it, as recipes name it.
        extra: the extra of the project that has what it needs; also the name of its lock file.
        package: the package that tells whether it is installed, and in which release.
        modules: what is imported of it.
        label: it and its companions, for people.
        within: the exporter whose environment has it too; "" where it has one of its own.
    """

    name: str
    extra: str
    package: str
    modules: tuple[str, ...]
    label: str
    within: str = ""

    @property
    def lock(self) -> str:
        """Its lock file, beside PyTorch's."""
        return f"{self.extra}.txt"

    @property
    def environment(self) -> str:
        """The exporter whose environment has it."""
        return self.within or self.name

    @property
    def command(self) -> str:
        """What makes its environment."""
        return f"modeldrop exporter install {self.environment}"


OPTIMUM = Exporter(
    name="optimum",
    extra="build",
    package="optimum-onnx",
    modules=("torch", "optimum", "onnxruntime"),
    label="optimum with transformers 4.57",
)
TRANSFORMERS = Exporter(
    name="transformers",
    extra="build-transformers",
    package="transformers",
    modules=("torch", "onnxscript", "onnxruntime"),
    label="transformers 5.24",
)
EXPORTERS: Mapping[str, Exporter] = {exporter.name: exporter for exporter in (OPTIMUM, TRANSFORMERS)}
"""Every exporter that has an environment of its own, by name."""
TORCH = Exporter(
    name="torch",
    extra=TRANSFORMERS.extra,
    package="onnxscript",
    modules=("torch", "onnxscript", "onnxruntime"),
    label="torch with onnxscript",
    within=TRANSFORMERS.name,
)
"""What exports a torch module of one's own."""
_OLDEST: Mapping[str, tuple[int, int]] = {OPTIMUM.name: (0, 1), TRANSFORMERS.name: (5, 24), TORCH.name: (0, 7)}
_PROGRAM = """
import importlib.metadata, importlib.util, sys
package, *modules = sys.argv[1:]
try:
    release = importlib.metadata.version(package)
except importlib.metadata.PackageNotFoundError:
    release = ""
print(release if all(map(importlib.util.find_spec, modules)) else "")
"""


@dataclass(frozen=True, slots=True)
class MadeEnvironment:
    """An environment that ``install_exporter`` has made, or has begun to.

    Attributes:
        exporter: the exporter's name.
        folder: where it is.
        state: ``ready``; ``outdated`` if another release of modeldrop locks other packages; ``broken``.
        size: bytes on the disk.
    """

    exporter: str
    folder: Path
    state: str
    size: int


def exporter_lock(exporter: Exporter) -> str:
    """The digest of what ``install_exporter`` installs."""
    return digest(read_lock(_TORCH) + read_lock(exporter.lock))


def _folder_name(exporter: Exporter) -> str:
    """How the names of the environments begin that hold what is locked now."""
    return f"{exporter.environment}-{exporter_lock(exporter)}"


def install_exporter(
    exporter: Exporter,
    folder: Path,
    say: Callable[[str], None],
    *,
    torch_index: str = TORCH_INDEX,
    cache: PipCache = PIP_CACHE,
    uv: str = "",
) -> Path:
    """An environment with CPU torch and an exporter; return its interpreter. One that is whole already is kept.

    Args:
        exporter: which one.
        folder: where environments are made.
        say: told what is done, line by line.
        torch_index: the package index that has PyTorch's CPU build.
        cache: pip's.
        uv: the program that installs in pip's place; "" for pip.

    Raises:
        MissingExtraError: a package cannot be had.
        DiskError: the folder cannot be written.
    """
    torch, others = read_lock(_TORCH), read_lock(exporter.lock)
    own_index = torch_index != TORCH_INDEX and "download.pytorch.org" not in torch_index
    name = _folder_name(exporter) + (f"-{digest(torch_index)[:8]}" if own_index else "")
    environment = VirtualEnvironment(folder / name, say, cache, quiet=False, uv=uv)
    if environment.usable:
        return environment.python
    try:
        environment.make(own_pip=not uv)
        say(f"This takes minutes: what {'uv' if uv else 'pip'} does follows.")
        _install_torch(environment, torch, torch_index, own_index=own_index)
        if locked_platform():
            lock = f"--requirement={lock_file(exporter.lock)}"
            environment.install("--no-deps", "--no-compile", "--require-hashes", lock)
        else:
            environment.install_versions(declared([exporter.extra]), torch + others, "--no-compile")
        environment.compile()
        note = {"exporter": exporter.name, "modeldrop": __version__}
        (environment.folder / _NOTE).write_text(json.dumps(note) + "\n", "utf-8")
        environment.finish()
    except OSError as error:
        raise DiskError(
            f"{environment.folder} cannot be written: {error.strerror or error}.",
            "Free some space there, or name another folder: MODELDROP_EXPORTERS.",
        ) from error
    return environment.python


def _install_torch(environment: VirtualEnvironment, torch: str, index: str, *, own_index: bool) -> None:
    # From its own index alone: PyPI's torch for Linux is the build for CUDA, with gigabytes of libraries.
    arguments = ["--no-deps", "--no-compile", "--retries=1", f"--index-url={index}"]
    if locked_platform() and not own_index:
        arguments += ["--require-hashes", f"--requirement={lock_file(_TORCH)}"]
    else:
        arguments += pins(torch)
    environment.install(
        *arguments,
        what="PyTorch",
        hint=f"It comes from {redact(index)}. Behind a mirror, name the mirror of that index: the action's input "
        "torch-index, or --torch-index.",
    )


def made_environments(folder: Path) -> list[MadeEnvironment]:
    """The environments that were made in a folder, those that are of use first."""
    found = []
    for exporter in EXPORTERS.values():
        current = _folder_name(exporter)
        for path in sorted(folder.glob(f"{exporter.name}-*")):
            state = "ready" if path.name.startswith(current) else "outdated"
            if not VirtualEnvironment(path, lambda _: None).usable:
                state = "broken"
            found.append(MadeEnvironment(exporter.name, path, state, _size(path)))
    return sorted(found, key=lambda one: one.state != "ready")


def remove_environments(folder: Path, names: tuple[str, ...]) -> list[MadeEnvironment]:
    """Remove the environments of some exporters, those of other releases too; return what was removed.

    Raises:
        DiskError: one cannot be removed.
    """
    removed = [one for one in made_environments(folder) if one.exporter in names]
    for one in removed:
        try:
            shutil.rmtree(one.folder)
        except OSError as error:
            raise DiskError(f"{one.folder} cannot be removed: {error.strerror or error}.") from error
    return removed


def find_exporter(exporter: Exporter) -> str:
    """The interpreter of an environment that has an exporter. Installs nothing, and takes no time to speak of.

    Raises:
        MissingExtraError: there is none, or the one that was made is broken or of another release of modeldrop; the
            hint is the command that fixes it.
    """
    named = variable("exporter_python")
    if named and (exporter is OPTIMUM or has_exporter(named, exporter)):
        return named  # if it has no optimum, the export says what it lacks
    if exporter.within and _is_here(exporter):
        return sys.executable  # what a module of one's own imports is rather here
    folder = exporters_folder()
    current = _folder_name(exporter)
    made = sorted(folder.glob(f"{current}*")) or [folder / current]
    for path in made:
        environment = VirtualEnvironment(path, lambda _: None)
        if environment.usable:
            return str(environment.python)
    if _is_here(exporter):
        return sys.executable
    others = [path for path in sorted(folder.glob(f"{exporter.environment}-*")) if path not in made]
    if made[0].exists():
        problem = f"The environment {made[0]} is broken: it was not completed, or its Python is gone."
    elif others:
        problem = f"The environment {others[-1]} was made by another release of modeldrop, with other packages."
    else:
        problem = f"Building this needs {exporter.label}, which is not installed here."
    hint = f"{exporter.command}\n  It makes an environment of its own in {folder}, about 1.5 GB; yours stays as it is."
    if exporter.within:
        hint += f"\n  Or, into the environment that your code runs in: pip install 'modeldrop[{exporter.name}]'"
    raise MissingExtraError(problem, hint)


def own_python() -> str:
    """The interpreter that MODELDROP_EXPORTER_PYTHON names, else the one that runs modeldrop."""
    return variable("exporter_python") or sys.executable


def any_exporter() -> str:
    """An interpreter that can run graphs: of any exporter that is there, else our own."""
    for exporter in EXPORTERS.values():
        try:
            return find_exporter(exporter)
        except MissingExtraError:
            continue
    return sys.executable


def has_exporter(python: str, exporter: Exporter) -> bool:
    """Whether an interpreter's environment has an exporter, in a release that is known to work."""
    command = [python, "-P", "-c", _PROGRAM, exporter.package, *exporter.modules]
    try:
        said = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0 and _is_new_enough(exporter, said.stdout.strip())


def _is_here(exporter: Exporter) -> bool:
    try:
        release = importlib.metadata.version(exporter.package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return _is_new_enough(exporter, release) and all(map(importlib.util.find_spec, exporter.modules))


def _is_new_enough(exporter: Exporter, release: str) -> bool:
    parts = release.split(".")[:2]
    return all(part.isdecimal() for part in parts) and tuple(map(int, parts)) >= _OLDEST[exporter.name]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def is_made(python: str) -> bool:
    """Whether an interpreter is that of an environment which ``install_exporter`` has made."""
    return (Path(python).parents[1] / _NOTE).is_file()


def code_folder(scratch: Path) -> Path:
    """A folder for PYTHONPATH with nothing but this release of modeldrop in it.

    What is made for an exporter holds no modeldrop: a worker runs the very code of whoever starts it.
    """
    folder = Path(tempfile.mkdtemp(prefix="code-", dir=scratch))
    (folder / "modeldrop").symlink_to(Path(__file__).parents[2], target_is_directory=True)
    return folder
