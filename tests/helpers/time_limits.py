"""Limits of modeldrop's own, lifted where they are not what is tested: a busy machine is no service that hangs."""

from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PARTS = ("_CONNECT", "_READ", "_REQUEST")
_STORAGE = "modeldrop.storage.read"
REQUESTS: Mapping[str, float | str] = (
    {f"{_STORAGE}.direct.{name}": HANG_SECONDS for name in _PARTS}
    | {f"{_STORAGE}.obstore_client.{name}": f"{HANG_SECONDS:g}s" for name in _PARTS}
    | {f"{_STORAGE}.bucket._PATIENCE": HANG_SECONDS}
)
"""How long a registry may take to answer before it is asked again, and for how long it is."""
METADATA: Mapping[str, float | str] = {
    f"{_STORAGE}.metadata.{name}": HANG_SECONDS for name in ("QUICK_SECONDS", "PATIENT_SECONDS")
}
"""How long a metadata service may take to answer."""
UPLOADS: Mapping[str, float | str] = {
    "modeldrop.oci.client._GIVE_UP_SECONDS": HANG_SECONDS,
    "modeldrop.oci.upload_ahead._CANCEL_SECONDS": HANG_SECONDS,
}
"""How long an upload to an OCI registry may take to end when it is given up."""

_PROGRAM = """
from tests.helpers.time_limits import lift_limits
lift_limits({limits})
from modeldrop.cli import program
program()
"""


def lift_limits(
    limits: Mapping[str, float | str] = REQUESTS, put: Callable[[object, str, object], None] = setattr
) -> None:
    """Let these limits of this process be long; ``put`` sets one."""
    for name, value in limits.items():
        module, _, attribute = name.rpartition(".")
        owner = importlib.import_module(module)
        assert hasattr(owner, attribute), name
        put(owner, attribute, value)


def patient_modeldrop(limits: Mapping[str, float | str]) -> list[str]:
    """How to start a modeldrop whose limits of these names are long, in ``builds.environment``."""
    return [sys.executable, "-c", _PROGRAM.format(limits=json.dumps(limits))]


@pytest.fixture(autouse=True)
def limits_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all tests of a package whose conftest imports it."""
    lift_limits(put=monkeypatch.setattr)
