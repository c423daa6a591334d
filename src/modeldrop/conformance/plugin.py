"""The pytest plugin of the conformance suite: ``--registry`` names the registry to try. Nothing else imports pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modeldrop.conformance.scratch import ScratchModel, scratch_model
from modeldrop.storage.write import open_store
from modeldrop.storage.write.store import Store


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--registry``."""
    parser.addoption("--registry", metavar="REGISTRY", help="the registry to try: its URL, folder or name")


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> Store:
    """The registry that the command line names."""
    registry = request.config.getoption("--registry")
    if not registry:
        raise pytest.UsageError("Name the registry to try: --registry s3://acme-models/scratch")
    return open_store(registry)


@pytest.fixture
def scratch(store: Store) -> Iterator[ScratchModel]:
    """A scratch model of its own for every check."""
    with scratch_model(store) as scratch:
        yield scratch
