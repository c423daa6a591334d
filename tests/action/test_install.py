import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modeldrop.action.install import inference_lock, wrap_exporter
from modeldrop.action.setup_command import parts_of
from modeldrop.errors import MissingExtraError
from modeldrop.export.environments.locks import ROOT
from modeldrop.export.environments.virtual import PipCache, pip_environment, run_program
from modeldrop.util.retry import with_timeout
from tests.action.requirements import pins
from tests.helpers.waiting import HANG_SECONDS

PARTS = {
    "plan.txt": ("", "action"),
    "plan-hub.txt": ("hub",),
    "plan-s3.txt": ("s3",),
    "plan-gcs.txt": ("gcs",),
    "plan-azure.txt": ("azure",),
    "plan-sign.txt": ("sign",),
    "plan-sigstore.txt": ("sigstore",),
    "build.txt": ("build",),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_lock_files_hold_what_the_project_declares(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {"": project["dependencies"], **project["optional-dependencies"]}
    locked = pins(name) | (pins("build-torch.txt") if name == "build.txt" else {})
    for requirement in (Requirement(text) for extra in PARTS[name] for text in declared[extra]):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked as {version}: make lock"


def test_the_lock_files_agree_with_each_other_and_with_the_tested_exporter() -> None:
    lines = (ROOT / "requirements" / "exporter.txt").read_text("utf-8").splitlines()
    tested: dict[str, str] = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)
    }
    together: dict[str, str] = {}
    for file in (*PARTS, "build-torch.txt"):
        for name, version in pins(file).items():
            assert together.setdefault(name, version) == version
            assert tested.get(name, version) == version.removesuffix("+cpu")


@pytest.mark.parametrize("name", [*PARTS, "build-torch.txt"])
def test_every_locked_package_has_its_hash(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text("utf-8")
    assert text.count("--hash=sha256:") == len(pins(name)) > 0


def test_what_runs_graphs_is_locked_as_the_exporter_has_it() -> None:
    lock = inference_lock()
    locked = {name: version for name, version in pins("build.txt").items() if f"{name}=={version}" in lock}
    assert sorted(locked) == ["numpy", "onnxruntime", "tokenizers"]
    assert lock.count("--hash=sha256:") == lock.count("==") == 3


@pytest.mark.parametrize("name", [name for name in PARTS if name.startswith("plan")])
def test_no_exporter_is_installed_to_plan(name: str) -> None:
    assert not pins(name).keys() & {"torch", "transformers", "optimum", "onnxruntime", "onnx", "numpy"}


@pytest.mark.parametrize("quiet", [True, False])
def test_what_pip_says_is_shown_as_it_says_it(quiet: bool, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    # It goes on once its first line was printed, or at once where nothing is to be.
    waits = f"while not os.path.exists({str(seen)!r}): time.sleep(0.01)" if not quiet else ""
    program = f"import os, time; print('token=s3cret', flush=True)\n{waits}\nprint('ERROR: no such package'); exit(1)"
    shown: list[str] = []

    def said(text: str) -> None:
        shown.append(text)
        seen.touch()

    with pytest.raises(MissingExtraError, match="it failed: no such package"):
        run_program([sys.executable, "-c", program], HANG_SECONDS, "it failed", "", said, quiet=quiet)
    lines = ["token=[redacted]", "ERROR: no such package"]
    assert shown == (["\n".join(lines)] if quiet else lines)


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(MissingExtraError, match="it failed: it took longer than 0 s"):
        run_program([sys.executable, "-c", f"import time; time.sleep({HANG_SECONDS})"], 0.01, "it failed", "", print)


def test_what_it_has_started_is_ended_too(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    program = f"sleep {100 * HANG_SECONDS} & touch '{begun}'; wait"  # it holds the output open
    for seconds in (0.1, 1.0, 10.0, HANG_SECONDS):

        def run(seconds: float = seconds) -> None:
            run_program(["sh", "-c", program], seconds, "it failed", "", print)

        with pytest.raises(MissingExtraError, match="it took longer"):
            with_timeout(run, 2 * HANG_SECONDS, "run")
        if begun.exists():
            return
    pytest.fail("it was never begun")


def test_where_packages_come_from_is_the_callers_choice_and_what_they_are_is_not() -> None:
    theirs = {"PIP_INDEX_URL": "https://pypi.acme.dev/simple", "PIP_CERT": "/ca.pem", "HTTPS_PROXY": "http://proxy"}
    meddling = {"PIP_CONSTRAINT": "c.txt", "PIP_TARGET": "/x", "PIP_USER": "1", "PYTHONPATH": "/x", "PIP_PRE": "1"}
    environment = pip_environment(theirs | meddling)
    assert environment.items() >= theirs.items()
    assert not environment.keys() & meddling.keys()


def test_the_cache_is_pips_own_a_folder_or_none() -> None:
    assert PipCache().option == []
    assert PipCache(Path("/a cache")).option == ["--cache-dir=/a cache"]
    assert PipCache(none=True).option == ["--no-cache-dir"]


def test_an_exporter_that_is_there_runs_the_code_of_this_checkout(tmp_path: Path) -> None:
    odd = tmp_path / "it's $(odd)"
    odd.mkdir()
    (odd / "python").symlink_to(sys.executable)
    launcher = wrap_exporter(str(odd / "python"), odd)
    program = "import modeldrop, sys; print(modeldrop.__file__); print(sys.argv[1:])"
    command = [str(launcher), "-P", "-S", "-c", program, "a b", "$(id)"]
    said = subprocess.run(command, env={"PYTHONPATH": "/nowhere"}, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [str(ROOT / "src/modeldrop/__init__.py"), "['a b', '$(id)']"]


def test_a_key_to_sign_with_brings_what_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELDROP_SIGNING_KEY", raising=False)
    assert parts_of("s3://acme-models") == ["s3"]
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", "x")
    assert parts_of("s3://acme-models") == ["s3", "sign"]
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", "gcpkms://projects/acme/…")
    assert parts_of("s3://acme-models") == ["s3", "gcs"]
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", "awskms:///arn:aws:kms:…")
    assert parts_of("s3://acme-models") == ["s3"]
