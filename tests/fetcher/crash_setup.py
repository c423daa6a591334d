"""A registry and a home in which fetches are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.channels import move_forward
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_folder, run_python
from tests.helpers.clouds import sign_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers

FETCH = "import sys; from modeldrop.fetcher.fetch import fetch; print(fetch(*sys.argv[1:]).path)"


@pytest.fixture
def place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder or URL of an empty registry."""
    if request.param == "folder":
        return str(tmp_path / "registry")
    sign_in(monkeypatch, servers["s3"])
    return servers["s3"].registry()


def publish_seed(registry: str, folder: Path, seed: str) -> None:
    make_build(folder / f"build-{seed}", seed)
    store = open_store(registry)
    version = publish_folder(store, "embedder", folder / f"build-{seed}", adopt_seconds=1).version
    move_forward(store, "embedder", version, "current", by="dana")


def fetched_once(registry: str, folder: Path) -> tuple[str, Path]:
    """A reference to v2, and a home that holds v1."""
    (folder / "home").mkdir()
    publish_seed(registry, folder, "a")
    run_python(FETCH, f"{registry}/embedder", folder / "home")
    publish_seed(registry, folder, "b")
    return f"{registry}/embedder", folder / "home"
