"""The pytest plugin of the conformance suite: ``--registry`` names the registry to try. Nothing else imports pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.conformance.run import RegistryUnderTest, open_under_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.conformance.scratch import ScratchModel


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--registry``."""
    parser.addoption("--registry", metavar="REGISTRY", help="the registry to try: its URL, folder or name")


@pytest.fixture(scope="session")
def tested(request: pytest.FixtureRequest) -> RegistryUnderTest:
    """The registry that the command line names."""
    registry = request.config.getoption("--registry")
    if not registry:
        raise pytest.UsageError("Name the registry to try: --registry s3://acme-models/scratch")
    return open_under_test(registry)


@pytest.fixture
def scratch(tested: RegistryUnderTest) -> Iterator[ScratchModel]:
    """A scratch model of its own for every check."""
    with tested.scratch_model() as scratch:
        yield scratch
