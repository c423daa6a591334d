"""What examples/deploy and the page about it show: their files, and the command lines in them."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "examples/deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SCRIPTS = sorted(DEPLOY.rglob("*.sh"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DOCKERFILES = sorted(DEPLOY.rglob("Dockerfile"))
COMPOSE = DEPLOY / "compose/compose.yaml"
CLOUD_RUN = DEPLOY / "cloud-run/service.yaml"
RENDER = DEPLOY / "render/render.yaml"
RAILWAY = DEPLOY / "railway/railway.json"
KUBERNETES_VERSION = "1.37"
_CONTAINERS = ("initContainers", "containers")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def pods(path: Path) -> list[dict[str, Any]]:
    """The pods' specifications in a file of Kubernetes."""
    return [
        document["spec"]["template"]["spec"] for document in documents(path) if "template" in document.get("spec", {})
    ]


def containers(path: Path) -> dict[str, dict[str, Any]]:
    """The containers in a file of Kubernetes, by name."""
    return {
        container.get("name", "search"): container
        for pod in (pods(path) if path != CLOUD_RUN else [documents(path)[0]["spec"]["template"]["spec"]])
        for kind in _CONTAINERS
        for container in pod.get(kind, [])
    }


def unit(path: Path) -> dict[str, dict[str, str]]:
    """A systemd unit; of a key that is there twice the last value."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text("utf-8"))
    return {section: dict(parser[section]) for section in parser.sections()}


def docker_words(path: Path) -> list[list[str]]:
    """The words of the last command of each RUN, and of ENTRYPOINT with CMD, in a Dockerfile."""
    lines = path.read_text("utf-8").replace("\\\n", " ").splitlines()
    scripts = [re.sub(r"--mount=\S+", "", line.removeprefix("RUN ")) for line in lines if line[:4] == "RUN "]
    runs = [shlex.split(script.rpartition(";")[2]) for script in scripts]
    start = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith(("ENTRYPOINT ", "CMD "))]
    return [*runs, [word for part in start for word in part]]


def script_words(path: Path) -> list[list[str]]:
    """The words of each line of a script that starts modeldrop; variables as they stand there."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("modeldrop ")]


def _all_words() -> Iterator[tuple[str, list[str]]]:
    for service in documents(COMPOSE)[0]["services"].values():
        words = list(service["command"])
        yield name_of(COMPOSE), words if words[0] == "modeldrop" else ["modeldrop", *words]
    for path in (*KUBERNETES, CLOUD_RUN):
        for container in containers(path).values():
            # The image's entry point is modeldrop.
            yield name_of(path), list(container.get("command") or ["modeldrop"]) + list(container.get("args", []))
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "exec" in container.get(probe, {}):
                    yield name_of(path), list(container[probe]["exec"]["command"])
    yield name_of(RENDER), shlex.split(documents(RENDER)[0]["services"][0]["dockerCommand"])
    yield name_of(RAILWAY), shlex.split(json.loads(RAILWAY.read_text("utf-8"))["deploy"]["startCommand"])
    for path in UNITS:
        yield name_of(path), shlex.split(unit(path)["Service"]["ExecStart"])
    for path in DOCKERFILES:
        yield from ((name_of(path), words) for words in docker_words(path))
    for path in SCRIPTS:
        yield from ((name_of(path), words) for words in script_words(path))


def commands() -> list[tuple[str, list[str]]]:
    """Every command line of modeldrop in the examples, and the file it is in."""
    return [(where, ["modeldrop", *words[1:]]) for where, words in _all_words() if Path(words[0]).name == "modeldrop"]
