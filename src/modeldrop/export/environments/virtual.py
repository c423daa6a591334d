"""One virtual environment: made, filled by uv or pip, compiled, marked as complete.

Where packages come from is the caller's choice (PIP_INDEX_URL and friends, pip.conf); what is installed is ours.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modeldrop.errors import MissingExtraError
from modeldrop.export.environments.locks import lock_file, locked_platform, pins, read_lock
from modeldrop.storage.errors import redact
from modeldrop.util.process import end_group

_VENV_SECONDS = 600.0
_INSTALL_SECONDS = 1800.0
_COMPILE_SECONDS = 600.0
_COMPLETE = ".complete"
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


PIP_CACHE = PipCache()
"""Pip's own."""


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """An environment in a folder of its own.

    Attributes:
        folder: it.
        say: told what is done, line by line.
        cache: pip's.
        quiet: whether what pip says is told only where it fails.
        uv: the program that installs in pip's place; "" for pip.
    """

    folder: Path
    say: Callable[[str], None]
    cache: PipCache = PIP_CACHE
    quiet: bool = True
    uv: str = ""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def complete(self) -> bool:
        """Whether everything was installed."""
        return (self.folder / _COMPLETE).is_file()

    @property
    def usable(self) -> bool:
        """Whether it is complete, and its interpreter is there: the one that it was made of may be gone."""
        return self.complete and self.python.is_file()  # through its links

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return self.folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    @property
    def _pip(self) -> list[str]:
        if (self.packages / "pip").is_dir():
            return [str(self.python), "-m", "pip", "install"]
        settings = (self.folder / "pyvenv.cfg").read_text("utf-8")
        below = re.search(r"(?m)^executable = (.+)$", settings)
        assert below is not None  # noqa: S101  venv writes it
        # Isolated: a pip in the user's own packages was not looked at before, either.
        return [below[1], "-I", "-m", "pip", "install", f"--target={self.packages}"]

    def make(self, *, own_pip: bool) -> None:
        """Make it with a pip of its own, whose unpacking takes longer than a few packages; else that of the base."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._run(
            [sys.executable, "-m", "venv", *([] if own_pip else ["--without-pip"]), str(self.folder)],
            _VENV_SECONDS,
            f"{sys.executable} cannot make a virtual environment",
            "On Debian and Ubuntu: apt-get install python3-venv. In the action: leave out python-version: system.",
        )

    def install(self, *arguments: str, what: str = "modeldrop's packages", hint: str = "") -> None:
        """Install what pip's arguments say.

        Raises:
            MissingExtraError: it cannot be had.
        """
        tool = "uv" if self.uv else "pip"
        if not self.uv:
            command = [*self._pip, "--progress-bar=off", *self.cache.option]
        else:
            # It compiles nothing and tries again by itself.
            arguments = tuple(one for one in arguments if not one.startswith(("--no-compile", "--retries")))
            command = [self.uv, "pip", "install", "--no-config", f"--python={self.python}", "--no-progress"]
        self._run(
            [*command, *(["--quiet"] if self.quiet else []), "--only-binary=:all:", *arguments],
            _INSTALL_SECONDS,
            f"{tool} could not install {what}",
            hint or "Check the network, and PIP_INDEX_URL where packages come from a mirror.",
            quiet=self.quiet,
        )

    def install_locked(self, names: Sequence[str], requirements: Sequence[str]) -> None:
        """What lock files name, by its hash on the platform that they are of; elsewhere ``requirements``."""
        if locked_platform():
            files = [f"--requirement={lock_file(name)}" for name in names]
            self.install("--no-deps", "--no-compile", "--require-hashes", *files)
        else:
            self.install_versions(requirements, "".join(map(read_lock, names)))

    def install_versions(self, requirements: Sequence[str], locks: str, *options: str) -> None:
        """Requirements with all that they need, in the versions of lock files."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
            constraints.write("\n".join(pins(locks)))
            constraints.flush()
            self.install(*options, f"--constraint={constraints.name}", *requirements)

    def compile(self) -> None:
        """Compile everything, with all cores: without byte code every export takes ten seconds longer."""
        self.say("Compiling what was installed")
        command = [str(self.python), "-m", "compileall", "-q", "-q", "-j", "0", str(self.packages)]
        # Some packages ship files for other Pythons, which do not compile and are not imported here.
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=_COMPILE_SECONDS)

    def finish(self) -> None:
        """Mark it as complete."""
        (self.folder / _COMPLETE).touch()

    def _run(self, command: list[str], seconds: float, what: str, hint: str, *, quiet: bool = True) -> None:
        run_program(command, seconds, what, hint, self.say, quiet=quiet)


def find_uv(environment: Mapping[str, str]) -> str:
    """The uv of the PATH; "" where there is none, or pip was told where packages come from, which uv does not read."""
    told = any(environment.get(name) for name in _PIP_SETTINGS)
    return "" if told else shutil.which("uv") or ""


def pip_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip: the caller's, without what would change what is installed, or where to."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _INTERFERING and (not name.startswith("PIP_") or name in _PIP_SETTINGS)
    } | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_REQUIRE_VIRTUALENV": "0"}


def run_program(
    command: list[str], seconds: float, what: str, hint: str, say: Callable[[str], None], *, quiet: bool = True
) -> None:
    """Run a program; unless ``quiet``, what it says is shown line by line, else only where it fails.

    Raises:
        MissingExtraError: it failed, or took longer than ``seconds``: ``what``, and what it said last.
    """
    said: list[str] = []
    late = threading.Event()

    def end() -> None:
        late.set()
        end_group(process)

    try:
        with subprocess.Popen(
            command,
            env=pip_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what it has started ends with it
        ) as process:
            timer = threading.Timer(seconds, end)
            timer.start()
            try:
                for line in process.stdout or ():
                    said.append(redact(line.decode("utf-8", "replace")).strip())
                    if not quiet:
                        say(said[-1])
            except BaseException:
                end_group(process)
                raise
            finally:
                timer.cancel()
    except OSError as error:
        raise MissingExtraError(f"{what}: {error.strerror or error}.", hint) from None
    if late.is_set():
        raise MissingExtraError(f"{what}: it took longer than {seconds:.0f} s.", hint)
    if process.returncode:
        if quiet:
            say("\n".join(said))
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        last = (errors or [line for line in said if line] or ["it said nothing"])[-1]
        raise MissingExtraError(f"{what}: {last[:500]}", hint)
