"""The Dockerfile: what it installs is declared, locked and hashed; what it copies is all that it is given."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.action.requirements import pins
from tests.deploy.example_files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DECLARED = {"fetch.txt": PROJECT["project"]["dependencies"], "wheel.txt": PROJECT["build-system"]["requires"]}


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_is_locked(name: str) -> None:
    for requirement in map(Requirement, DECLARED[name]):
        version = pins(name)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked as {version}: make lock"


def test_the_image_and_the_action_install_the_same() -> None:
    assert pins("fetch.txt").items() <= pins("plan.txt").items()


def test_what_is_compiled_has_a_hash_for_each_platform_of_the_image() -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements/fetch.txt").read_text("utf-8"))
    hashes = {block.partition("==")[0]: block.count("--hash=sha256:") for block in blocks if "==" in block}
    assert hashes == {"blake3": 2, "obstore": 2, "typing-extensions": 1}


def test_every_lock_file_of_the_dockerfile_is_there_and_demands_hashes() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    installs = [line for line in text.splitlines() if " install " in line and " -r " in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)
    used = {name for line in installs for name in re.findall(r"-r (requirements/[\w-]+\.txt)", line)}
    assert len(used) == 7
    assert all((ROOT / name).is_file() for name in used)


def test_the_base_is_pinned() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.search(r"^ARG PYTHON_IMAGE=docker\.io/library/python:3\.11-\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = re.findall(r" AS (\S+)$", text, re.MULTILINE)
    assert set(bases) <= {"${PYTHON_IMAGE}", *stages}


def test_the_context_has_nothing_but_what_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in lines
    copied = {
        word.rstrip("/").partition("/")[0]
        for line in (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied == {line[1:].partition("/")[0] for line in lines if line.startswith("!")}


def test_what_the_wheel_is_built_of_is_copied_before() -> None:
    before, found, _ = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").partition("pip wheel")
    assert found
    copied = {word for line in before.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    described = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert {*described, *wheel["force-include"]} <= copied
    assert {package.partition("/")[0] for package in wheel["packages"]} <= copied
