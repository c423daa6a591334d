"""What costs an export is made once: tests are spread over processes by module, and one module uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.minilm import Published, checkpoint, publish_once


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The checkpoint folder of all-MiniLM-L6-v2."""
    return checkpoint()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Published:
    """MiniLM published once for all tests that only read it."""
    return publish_once(tmp_path_factory, worker_id)
