"""pytest's side of the conformance suite: ``--registry`` names the registry to try. Nothing else imports pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.conformance.running import Sides, open_sides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.conformance.place import Place


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--registry``."""
    parser.addoption("--registry", metavar="REGISTRY", help="the registry to try: its URL, folder or name")


@pytest.fixture(scope="session")
def sides(request: pytest.FixtureRequest) -> Sides:
    """The registry that the command line names."""
    registry = request.config.getoption("--registry")
    if not registry:
        raise pytest.UsageError("Name the registry to try: --registry s3://acme-models/scratch")
    return open_sides(registry)


@pytest.fixture
def place(sides: Sides) -> Iterator[Place]:
    """A scratch model of its own for every check."""
    with sides.scratch() as place:
        yield place
