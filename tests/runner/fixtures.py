"""Fixtures for tests that need GitHub's own parser and evaluator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runner.expressions import GitHub


@pytest.fixture(scope="session")
def github() -> Iterator[GitHub]:
    """One Node process for all tests of a session."""
    with GitHub() as process:
        yield process
