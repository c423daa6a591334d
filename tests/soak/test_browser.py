"""The registry's pages in Debian's Chromium, as a person uses them: ``tests/servers/browser/pages.mjs`` says how."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop.format.diff import diff
from modeldrop.site.places import SITE_FOLDER, FolderPlace, RegistryPlace
from modeldrop.site.writing import write_site
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.eventful_registry import make_eventful_registry
from tests.helpers.paper_registry import paper_manifest
from tests.helpers.served_pages import served_pages
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.node import HERE, NODE_FOLDER, node

pytestmark = pytest.mark.soak

CASES = (
    "links", "filter", "sort", "compare", "comparison_of_nothing", "copy", "hostile", "without_javascript", "phone",
    "dark", "accessible", "keyboard",
)  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = make_eventful_registry(tmp_path_factory.mktemp("site") / "registry")
    store = FolderStore(str(registry))
    write_site(store, FolderPlace(registry.parent / "pages"))
    write_site(store, RegistryPlace(store))
    return registry


@pytest.fixture(scope="module")
def served(registry: Path) -> Iterator[str]:
    """Where the same pages are served."""
    with served_pages(registry) as address:
        yield address


def browse(case: str, site: str) -> str:
    """Do one case; return what it prints."""
    chromium = shutil.which("chromium")
    assert chromium, "apt-get install --no-install-recommends chromium"
    script, modules = HERE / "browser" / "pages.mjs", NODE_FOLDER / "browser" / "node_modules"
    ran = subprocess.run(
        [node(), script, modules, chromium, site, case],
        check=False,
        capture_output=True,
        text=True,
        timeout=5 * HANG_SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("case", CASES)
def test_from_a_folder(registry: Path, case: str) -> None:
    browse(case, str(registry.parent / "pages"))


@pytest.mark.parametrize("case", ["links", "compare", "copy", "hostile"])
def test_served(served: str, case: str) -> None:
    browse(case, served)


def test_a_comparison_is_what_the_command_says(registry: Path) -> None:
    shown = json.loads(browse("differences", str(registry.parent / "pages")))
    expected = diff(paper_manifest(2), paper_manifest(53))
    assert [tuple(row) for row in shown] == [(one.what, one.before or "–", one.after or "–") for one in expected]


def test_the_folder_of_pages_is_the_one_that_is_served(served: str) -> None:
    assert served.endswith(f"/{SITE_FOLDER}/")
