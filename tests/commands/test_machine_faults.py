"""What a machine refuses is a sentence of its class, and no defect of modeldrop."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop import cli
from modeldrop.storage.read.interface import open_reader
from tests.helpers.builds import NOBODY, open_to_all, publish_build
from tests.servers.s3 import environment

if TYPE_CHECKING:
    from pathlib import Path

DEFECT = "defect of modeldrop"

_PR_CAPBSET_DROP, _SYS_ADMIN, _SYS_RESOURCE = 24, 21, 24  # of linux/prctl.h and linux/capability.h


@pytest.fixture
def published(registry: Path) -> Path:
    publish_build(registry)
    return registry


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of most containers that name a number: no HOME, and unknown to the system."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_user_without_a_home(
    homeless: None, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["fetch", f"{published}/embedder", "-d", str(tmp_path / "home"), "--quiet"]) == 0
    capsys.readouterr()
    for command in (["fetch", f"{published}/embedder"], ["status"], ["cache", "ls"]):
        assert cli.main(command) == 15
        assert "This user has no home folder" in capsys.readouterr().err
    assert cli.main(["fetch", "~/models/embedder", "-d", str(tmp_path / "other")]) == 12
    for name, value in environment("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "token")
    for url in ("s3://acme", "gs://acme", "az://acmemodels/acme"):
        assert open_reader(url).url == url


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["cache", "ls"], ["ls"], ["status", "--json"], ["fetch", "-d"]],
    ids=" ".join,
)
def test_output_that_has_no_room(arguments: list[str], published: Path, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    assert cli.main(["fetch", f"{published}/embedder", "-d", home, "--quiet"]) == 0
    more = {"cache": ["-d", home], "ls": [str(published)], "status": [home], "fetch": [home, f"{published}/embedder"]}
    command = [sys.executable, "-m", "modeldrop", *arguments, *more.get(arguments[0], [])]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 15
        assert "No space left on device" in done.stderr
        assert DEFECT not in done.stderr
        if arguments[0] == "fetch":  # what it says besides is not what it is for
            assert subprocess.run(command, stderr=full, stdout=subprocess.PIPE, check=False).returncode == 0


def allow_no_threads() -> None:
    """Let this process start nothing any more. Root may always: it goes on as nobody, who may read what root may.

    To become nobody in all would take the interpreter away, where that is root's own.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_SYS_ADMIN, _SYS_RESOURCE):
            assert libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
        os.setresuid(NOBODY, 0, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))


def test_no_more_threads(published: Path, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    tmp_path.chmod(0o777)

    def run(reference: str, home: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "modeldrop", "fetch", reference, "-d", str(tmp_path / home)],
            env=os.environ | {"HOME": str(tmp_path)} | variables,
            preexec_fn=allow_no_threads,
            capture_output=True,
            text=True,
            check=False,
        )

    from_folder = run(f"{published}/embedder", "one")
    for done in (from_folder, run("s3://acme/embedder", "two", **environment("http://127.0.0.1:1"))):
        assert done.returncode == 12, done.stderr
        assert "cannot be read: this process may start no more threads" in done.stderr
        assert DEFECT not in done.stderr


def test_folders_whose_names_the_locale_cannot_say(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "modèles"
    folder.mkdir()
    moved = published.rename(folder / "régistre")
    plain = {"LANG": "C", "LC_ALL": "C"}
    without_utf8 = plain | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for locale, code in ((without_utf8, 15), (plain, 0)):
        done = subprocess.run(
            [sys.executable, "-m", "modeldrop", "fetch", f"{moved}/embedder", "-d", str(folder / "hömé")],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | locale,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert DEFECT.encode() not in done.stderr
    assert os.path.isdir(done.stdout.strip())  # noqa: PTH112
