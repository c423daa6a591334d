"""Limits of modeldrop's own that no starved process reaches, for tests of something else than these limits."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

_READ = "modeldrop.storage.read"
READS = {f"{_READ}.direct.{name}": HANG_SECONDS for name in ("_CONNECT", "_READ", "_REQUEST")} | {
    f"{_READ}.obstore_client.{name}": f"{HANG_SECONDS:.0f}s" for name in ("_CONNECT", "_READ", "_REQUEST")
}
"""How long a registry may take to answer before it is asked again."""
UPLOADS = {
    "modeldrop.oci.client._GIVE_UP_SECONDS": HANG_SECONDS,
    "modeldrop.oci.upload_ahead._CANCEL_SECONDS": HANG_SECONDS,
}
"""How long an upload to an OCI registry may take to end when it is given up."""

_PROGRAM = """
import importlib
for name, value in {limits}.items():
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), name
    setattr(importlib.import_module(module), attribute, value)
from modeldrop.cli import program
program()
"""


def wait_long(monkeypatch: pytest.MonkeyPatch, limits: Mapping[str, float | str]) -> None:
    """Let these limits of this process be long."""
    for name, value in limits.items():
        monkeypatch.setattr(name, value)


def patient_modeldrop(limits: Mapping[str, float | str]) -> list[str]:
    """How to start a modeldrop whose limits of these names are long."""
    return [sys.executable, "-c", _PROGRAM.format(limits=json.dumps(limits))]
