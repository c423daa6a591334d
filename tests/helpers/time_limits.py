"""Limits of requests, lifted where they are not what is tested: a busy machine is no service that hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.storage.read import bucket, direct, metadata, obstore_client
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


def lift_limits(put: Callable[[object, str, object], None] = setattr) -> None:
    """Let requests of registries take as long as they will, and be made as often as ever; ``put`` sets it."""
    for name in ("_CONNECT", "_READ", "_REQUEST"):
        put(obstore_client, name, f"{HANG_SECONDS:g}s")
        put(direct, name, HANG_SECONDS)
    put(bucket, "_PATIENCE", HANG_SECONDS)


@pytest.fixture(autouse=True)
def limits_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all tests of a package whose conftest imports it."""
    lift_limits(monkeypatch.setattr)


def wait_for_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for a metadata service: here one answers."""
    monkeypatch.setattr(metadata, "QUICK_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(metadata, "PATIENT_SECONDS", HANG_SECONDS)
