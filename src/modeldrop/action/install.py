"""Virtual environments in the runner's temporary folder: a small one that plans and publishes, one that exports.

The small one begins with the fetcher's own client, which is enough for what has a version already. The cloud's SDK and
the Hub's client are added once something is to be uploaded or downloaded.

On Linux, x86-64 and CPython 3.11 everything is locked with its hashes; elsewhere the same versions are taken.
Where packages come from is the caller's choice (PIP_INDEX_URL and friends, pip.conf); what is installed is ours.
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from modeldrop.action import github
from modeldrop.config import variable
from modeldrop.errors import MissingExtraError
from modeldrop.storage.errors import redact

ROOT = Path(__file__).resolve().parents[3]
"""The action's checkout: its ref is the version of the tool."""

_REQUIREMENTS = ROOT / "requirements"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s+;]+)", re.MULTILINE)
_VENV_SECONDS = 600.0
_INSTALL_SECONDS = 1800.0
_COMPILE_SECONDS = 600.0
_TORCH = "build-torch.txt"
# What compares two builds; tokenizers and onnxruntime declare more than they import for that.
_INFERENCE = frozenset({"numpy", "onnxruntime", "tokenizers"})
# Of pip's settings, those that say where packages come from and how to get there.
_PIP_SETTINGS = frozenset(
    {
        "PIP_CERT",
        "PIP_CLIENT_CERT",
        "PIP_CONFIG_FILE",
        "PIP_DEFAULT_TIMEOUT",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_INDEX_URL",
        "PIP_KEYRING_PROVIDER",
        "PIP_NO_INDEX",
        "PIP_PROXY",
        "PIP_RESUME_RETRIES",
        "PIP_RETRIES",
        "PIP_TIMEOUT",
        "PIP_TRUSTED_HOST",
    }
)
_INTERFERING = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"})


@dataclass(frozen=True, slots=True)
class PipCache:
    """Where pip keeps downloads: a folder, its own default (None), or nowhere."""

    folder: Path | None = None
    none: bool = False

    @property
    def option(self) -> list[str]:
        """For pip."""
        if self.none:
            return ["--no-cache-dir"]
        return [f"--cache-dir={self.folder}"] if self.folder else []


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
    environment = _VirtualEnvironment(folder / f"plan-{_digest(''.join(map(_lock, names)))}", cache)
    if environment.complete:
        return environment.python
    environment.make(own_pip=find_spec("pip") is None)
    environment.install_locked(names, _declared(["", "action", *parts]))
    environment.note(parts)
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
        environment = _VirtualEnvironment(Path(sys.prefix), cache)
        environment.install_locked(_lock_names(missing)[1:], _declared(missing))
        environment.note(missing)
        importlib.invalidate_caches()  # what could not be imported a moment ago


def signing_parts() -> list[str]:
    """What signing with MODELDROP_SIGNING_KEY needs, as parts of ``install_planner``; nothing where it is not set."""
    key = variable("signing_key")
    kms = [part for scheme, part in (("awskms:", "s3"), ("gcpkms:", "gcs")) if scheme in key]
    return kms or (["sign"] if key else [])


def install_exporter(folder: Path, torch_index: str, cache: PipCache) -> Path:
    """An environment with CPU torch and the exporter; return its interpreter.

    Args:
        folder: where environments are made.
        torch_index: the package index that has PyTorch's CPU build.
        cache: pip's.

    Raises:
        MissingExtraError: a package cannot be had.
    """
    torch, others = _lock(_TORCH), _lock("build.txt")
    environment = _VirtualEnvironment(folder / f"build-{_digest(torch + others + torch_index)}", cache, quiet=False)
    if environment.complete:
        return environment.python
    environment.make(own_pip=True)
    github.say("This takes minutes: what pip does follows.")
    # From its own index alone: PyPI's torch for Linux is the build for CUDA, with gigabytes of libraries.
    from_index = ("--no-deps", "--no-compile", "--retries=1", f"--index-url={torch_index}")
    torch_hint = (
        f"It comes from {redact(torch_index)}. Behind a mirror, set the input torch-index to the mirror of that index."
    )
    own_index = "download.pytorch.org" not in torch_index
    if locked_platform() and not own_index:
        environment.install(
            *from_index, "--require-hashes", f"--requirement={_REQUIREMENTS / _TORCH}", what="PyTorch", hint=torch_hint
        )
    else:
        environment.install(*from_index, *_pins(torch), what="PyTorch", hint=torch_hint)
    if locked_platform():
        environment.install("--no-deps", "--no-compile", "--require-hashes", f"--requirement={_REQUIREMENTS}/build.txt")
    else:
        environment.install_versions(_declared(["build"]), torch + others, "--no-compile")
    environment.compile()  # with all cores; without byte code every export takes ten seconds longer
    environment.finish()
    return environment.python


def install_inference(cache: PipCache) -> Path:
    """Add to the environment that runs this what runs graphs, in processes of their own; return its interpreter.

    Raises:
        MissingExtraError: a package cannot be had.
    """
    environment, lock = _VirtualEnvironment(Path(sys.prefix), cache), inference_lock()
    done = environment.folder / f".inference-{_digest(lock)}"
    if done.is_file():
        return environment.python
    if locked_platform():
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
            requirements.write(lock)
            requirements.flush()
            environment.install("--no-deps", "--require-hashes", f"--requirement={requirements.name}")
    else:
        environment.install("--no-deps", *_pins(lock))
    done.touch()
    return environment.python


def inference_lock() -> str:
    """Of the exporter's lock, what runs graphs."""
    blocks = re.split(r"(?m)^(?=\w)", _lock("build.txt"))
    return "".join(block for block in blocks if block.partition("==")[0] in _INFERENCE)


def exporter_lock() -> str:
    """The digest of what ``install_exporter`` installs, for a cache's key."""
    return _digest(_lock(_TORCH) + _lock("build.txt"))


def wrap_exporter(python: str, folder: Path) -> Path:
    """A launcher for an exporter that is there already: it runs this checkout's code, whatever is installed there."""
    launcher = folder / "exporter-python"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT / "src"))} exec {shlex.quote(python)} "$@"\n')
    launcher.chmod(0o755)
    return launcher


def locked_platform() -> bool:
    """Whether the lock files' hashes are those of this platform's packages."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] == (3, 11)
        and sys.platform == "linux"
        and platform.machine() == "x86_64"
        and platform.libc_ver()[0] == "glibc"
    )


def pip_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip: the caller's, without what would change what is installed, or where to."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _INTERFERING and (not name.startswith("PIP_") or name in _PIP_SETTINGS)
    } | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_REQUIRE_VIRTUALENV": "0"}


@dataclass(frozen=True, slots=True)
class _VirtualEnvironment:
    folder: Path
    cache: PipCache
    quiet: bool = True

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def complete(self) -> bool:
        return (self.folder / ".complete").is_file()

    @property
    def _packages(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    @property
    def _pip(self) -> list[str]:
        if (self._packages / "pip").is_dir():
            return [str(self.python), "-m", "pip", "install"]
        settings = (self.folder / "pyvenv.cfg").read_text("utf-8")
        below = re.search(r"(?m)^executable = (.+)$", settings)
        assert below is not None  # noqa: S101  venv writes it
        # Isolated: a pip in the user's own packages was not looked at before, either.
        return [below[1], "-I", "-m", "pip", "install", f"--target={self._packages}"]

    def make(self, *, own_pip: bool) -> None:
        """With a pip of its own, whose unpacking takes longer than a few packages; else with that of the base."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        _run(
            [sys.executable, "-m", "venv", *([] if own_pip else ["--without-pip"]), str(self.folder)],
            _VENV_SECONDS,
            f"{sys.executable} cannot make a virtual environment",
            "On Debian and Ubuntu: apt-get install python3-venv. Or leave out python-version: system.",
        )

    def install(self, *arguments: str, what: str = "modeldrop's packages", hint: str = "") -> None:
        command = [*self._pip, "--progress-bar=off", *self.cache.option]
        _run(
            [*command, *(["--quiet"] if self.quiet else []), "--only-binary=:all:", *arguments],
            _INSTALL_SECONDS,
            f"pip could not install {what}",
            hint or "Check the network, and PIP_INDEX_URL where packages come from a mirror.",
            quiet=self.quiet,
        )

    def install_locked(self, names: Sequence[str], requirements: Sequence[str]) -> None:
        """What lock files name, by its hash on the platform that they are of; elsewhere ``requirements``."""
        if locked_platform():
            files = [f"--requirement={_REQUIREMENTS / name}" for name in names]
            self.install("--no-deps", "--no-compile", "--require-hashes", *files)
        else:
            self.install_versions(requirements, "".join(map(_lock, names)))

    def install_versions(self, requirements: Sequence[str], locks: str, *options: str) -> None:
        """Requirements with all that they need, in the versions of lock files."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
            constraints.write("\n".join(_pins(locks)))
            constraints.flush()
            self.install(*options, f"--constraint={constraints.name}", *requirements)

    def compile(self) -> None:
        github.say("Compiling what was installed")
        command = [str(self.python), "-m", "compileall", "-q", "-q", "-j", "0", str(self._packages)]
        # Some packages ship files for other Pythons, which do not compile and are not imported here.
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=_COMPILE_SECONDS)

    def note(self, parts: Sequence[str]) -> None:
        """Remember what it has, for ``missing_parts``."""
        for part in parts:
            (self.folder / f".{part}").touch()

    def finish(self) -> None:
        """The tool itself is this checkout; no build back end is needed for that."""
        (self._packages / "modeldrop.pth").write_text(f"{ROOT / 'src'}\n", "utf-8")
        (self.folder / ".complete").touch()


def _lock_names(parts: Sequence[str]) -> list[str]:
    return ["plan.txt", *(f"plan-{part}.txt" for part in parts)]


def _lock(name: str) -> str:
    return (_REQUIREMENTS / name).read_text("utf-8")


def _pins(locks: str) -> list[str]:
    """``name==version`` of lock files, without hashes and without the mark of PyTorch's CPU build."""
    return list(dict.fromkeys(f"{name}=={version}" for name, version in _PIN.findall(locks)))


def _declared(extras: Sequence[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {"": project["dependencies"], **project["optional-dependencies"]}
    return [requirement for extra in extras for requirement in wanted[extra]]


def _digest(text: str) -> str:
    return hashlib.sha256(f"{sys.version} {text}".encode()).hexdigest()[:16]


def _run(command: list[str], seconds: float, what: str, hint: str, *, quiet: bool = True) -> None:
    """Run a program; unless ``quiet``, what it says is shown line by line, else only where it fails."""
    said: list[str] = []
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    try:
        with subprocess.Popen(
            command,
            env=pip_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            timer = threading.Timer(seconds, end)
            timer.start()
            try:
                for line in process.stdout or ():
                    said.append(redact(line.decode("utf-8", "replace")).strip())
                    if not quiet:
                        github.say(said[-1])
            finally:
                timer.cancel()
    except OSError as error:
        raise MissingExtraError(f"{what}: {error.strerror or error}.", hint) from None
    if late.is_set():
        raise MissingExtraError(f"{what}: it took longer than {seconds:.0f} s.", hint)
    if process.returncode:
        if quiet:
            github.say("\n".join(said))
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        last = (errors or [line for line in said if line] or ["it said nothing"])[-1]
        raise MissingExtraError(f"{what}: {last[:500]}", hint)
