from __future__ import annotations

import pytest

from modeldrop.storage.read import bucket
from tests.helpers.builds import publisher_environment, registry
from tests.helpers.time_limits import limits_lifted

__all__ = ["limits_lifted", "publisher_environment", "registry"]


@pytest.fixture(autouse=True)
def short_pauses_between_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many attempts as ever, at once, however long each takes."""
    monkeypatch.setattr(bucket, "_PAUSES", (0.005, 0.01))
