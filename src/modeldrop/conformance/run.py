"""Opens a registry as publishers and as readers do, and runs the checks without pytest."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore

from modeldrop.config import registry_settings
from modeldrop.conformance.checks import CHECKS
from modeldrop.conformance.scratch import NonconformantError, NotApplicableError, ScratchModel, scratch_model
from modeldrop.errors import ModeldropError
from modeldrop.storage.read.interface import RegistryReader, open_reader
from modeldrop.storage.read.obstore_client import open_client
from modeldrop.storage.write import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modeldrop.conformance.checks import Check
    from modeldrop.storage.write.store import Store


@dataclass(frozen=True, slots=True)
class RegistryUnderTest:
    """A registry as its publishers and as its readers have it."""

    store: Store

    def reader(self) -> RegistryReader:
        """A reader of its own, as a container opens it."""
        return open_reader(self.store.url)

    def headers(self, key: str) -> Mapping[str, str]:
        """What readers get an object served as."""
        # The fetcher has no use for them, so its reader does not offer them.
        found = obstore.get(open_client(registry_settings(self.store.url)).store, key).attributes
        return {name: str(value) for name, value in found.items()}

    @contextlib.contextmanager
    def scratch_model(self) -> Iterator[ScratchModel]:
        """A scratch model, removed at the end."""
        with scratch_model(self.store, self.reader, self.headers) as scratch:
            yield scratch


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """What a check found. ``fault`` is "" where the promise is kept; ``skipped`` says why it cannot be looked at."""

    check: Check
    fault: str = ""
    skipped: str = ""


def open_under_test(registry: str) -> RegistryUnderTest:
    """Open a registry by its URL, folder or name in modeldrop.toml.

    Raises:
        ModeldropError: as ``open_store`` does.
    """
    return RegistryUnderTest(open_store(registry))


def run_checks(tested: RegistryUnderTest, *, slow: bool = False) -> Iterator[ConformanceResult]:
    """Run the checks one after another; each result as it is known."""
    for check in CHECKS:
        if not check.slow or slow:
            yield _result(check, tested)


def _result(check: Check, tested: RegistryUnderTest) -> ConformanceResult:
    try:
        with tested.scratch_model() as scratch:
            check.run(scratch)
    except NotApplicableError as reason:
        return ConformanceResult(check, skipped=str(reason))
    except NonconformantError as error:
        return ConformanceResult(check, str(error))
    except ModeldropError as error:
        return ConformanceResult(check, error.message)
    return ConformanceResult(check)
