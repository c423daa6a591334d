"""What every test shares: the clouds, the examples of property tests, which tests run and in which order."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.builds import NO_EXPORTERS
from tests.helpers.clouds import any_registry, cloud, cloud_registry, foreign_gcs, lookalike, servers
from tests.helpers.rounds import TEST_ROUNDS, rounds
from tests.helpers.selection import is_quick, is_quick_case, longest_first
from tests.helpers.unsynced import wait_for_no_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["any_registry", "cloud", "cloud_registry", "foreign_gcs", "lookalike", "servers"]

# A shell starts what runs in the background with SIGINT and SIGQUIT ignored, nohup with SIGHUP: tests inherit that.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, lambda *_: None),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

wait_for_no_disk()

# Every run that begins closes pytest's folder to other users, which a test of permissions may just have opened: so each
# checkout has one of its own. A short name, for there are sockets in it.
_TEMPORARY = Path(tempfile.gettempdir(), f"modeldrop-{zlib.crc32(os.fsencode(Path(__file__).parent)) & 0xFFFF:04x}")
_TEMPORARY.mkdir(exist_ok=True)
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_TEMPORARY))

# When jsonschema is imported, it reads forty grammars of IRIs, for two seconds; no schema here has a field of them.
# With None in its place, a module is one that is not there.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# What a developer has made with modeldrop exporter install is not what is tested.
os.environ["MODELDROP_EXPORTERS"] = NO_EXPORTERS

settings.register_profile(
    "tests",
    deadline=None,
    derandomize=TEST_ROUNDS != "all",
    max_examples=rounds(50, 2000),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    """Let no test's process use what an earlier test has fetched: each home would hold a descriptor until the end."""
    yield
    if "modeldrop.fetcher.leases" in sys.modules:
        sys.modules["modeldrop.fetcher.leases"].let_go()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only what takes a moment and needs nothing but .venv")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, unread, what is not quick; None leaves the decision to pytest."""
    module = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    if config.getoption("quick") and module.name.startswith(("test_", "conftest")) and module.is_file():
        return None if is_quick(module) else True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(getattr(item, "function", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.rounds)
    if config.getoption("quick"):
        items[:] = [item for item in items if isinstance(item, pytest.Function) and is_quick_case(item)]
    items[:] = longest_first(items)
