from __future__ import annotations

import pytest

from modeldrop.storage.read import bucket
from tests.helpers.builds import publisher_environment, registry

__all__ = ["publisher_environment", "registry"]


@pytest.fixture(autouse=True)
def short_pauses_between_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many attempts as ever, at once."""
    monkeypatch.setattr(bucket, "_PAUSES", (0.005, 0.01))
