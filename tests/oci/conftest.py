from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldrop.oci import client
from tests.helpers.builds import publish_build, publisher_environment, registry
from tests.helpers.command_line import run_here
from tests.servers.oci_registry import OciRegistry

__all__ = ["publisher_environment", "registry"]


@pytest.fixture(autouse=True)
def nobody_signed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without credentials; the folder that is home. Pauses between attempts take no time."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.001)
    return user


@pytest.fixture
def oci() -> Iterator[OciRegistry]:
    with OciRegistry() as server:
        yield server


@pytest.fixture
def source(registry: Path) -> str:
    """A published model with two variants."""
    publish_build(registry)
    return f"{registry}/embedder"


@pytest.fixture
def export(source: str, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs ``modeldrop export`` of that model in this process."""

    def run(destination: object, *more: object, variant: str = "int8") -> tuple[int, str, str]:
        return run_here("export", source, destination, "-d", tmp_path / "home", f"--variant={variant}", *more)

    return run


Run = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]
