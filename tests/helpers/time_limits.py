"""Limits of modeldrop's own, lifted where they are not what is tested: a busy machine is no service that hangs."""

from __future__ import annotations

import json
import pkgutil
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.util.retry import Deadline
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PARTS = ("_CONNECT", "_READ", "_REQUEST")
_STORAGE = "modeldrop.storage.read"
REQUESTS: Mapping[str, object] = (
    {f"{_STORAGE}.direct.{name}": HANG_SECONDS for name in _PARTS}
    | {f"{_STORAGE}.obstore_client.{name}": f"{HANG_SECONDS:g}s" for name in _PARTS}
    | {f"{_STORAGE}.bucket._PATIENCE": HANG_SECONDS}
)
"""How long a registry may take to answer before it is asked again, and for how long it is."""
METADATA: Mapping[str, object] = {
    f"{_STORAGE}.metadata.{name}": HANG_SECONDS for name in ("QUICK_SECONDS", "PATIENT_SECONDS")
}
"""How long a metadata service may take to answer."""
UPLOADS: Mapping[str, object] = {
    "modeldrop.oci.client._GIVE_UP_SECONDS": HANG_SECONDS,
    "modeldrop.oci.upload_ahead._CANCEL_SECONDS": HANG_SECONDS,
}
"""How long an upload to an OCI registry may take to end when it is given up."""
DOCTOR: Mapping[str, object] = {
    "modeldrop.doctor.checks.ANSWER_SECONDS": HANG_SECONDS,
    "modeldrop.doctor.reading._CLOCK_SECONDS": HANG_SECONDS,
}
"""How long a service may take to answer the doctor."""


def _long_deadline(seconds: float) -> Deadline:
    """One that a busy machine never sees the end of; what a test has shortened is its subject."""
    return Deadline(seconds if seconds < 1 else HANG_SECONDS)


_BOTH = (HANG_SECONDS, HANG_SECONDS)
_WRITE = "modeldrop.storage.write"
PUBLISHERS: Mapping[str, Mapping[str, object]] = {
    "s3": {
        f"{_WRITE}.s3.client.CONNECT_SECONDS": HANG_SECONDS,
        f"{_WRITE}.s3.connection._FIRST_ANSWER_SECONDS": HANG_SECONDS,
        f"{_WRITE}.s3.connection._CONNECT_RETRY_SECONDS": HANG_SECONDS,
        f"{_WRITE}.s3.connection._RECONNECT_RETRY_SECONDS": HANG_SECONDS,
    },
    "gs": {
        f"{_WRITE}.gcs.client.QUICK_TIMEOUT": _BOTH,
        f"{_WRITE}.gcs.client.TIMEOUT": _BOTH,
        f"{_WRITE}.gcs.client.LONG_TIMEOUT": _BOTH,
        f"{_WRITE}.gcs.client.Deadline": _long_deadline,
    },
    "az": {
        f"{_WRITE}.azure.store._CONNECT_SECONDS": HANG_SECONDS,
        f"{_WRITE}.azure.store._FIRST_READ_SECONDS": HANG_SECONDS,
        f"{_WRITE}.azure.store._READ_SECONDS": HANG_SECONDS,
        f"{_WRITE}.azure.store._RetryLimits.seconds": lambda *_: HANG_SECONDS,
    },
}
"""By the registry's scheme: how long a publisher waits to send and for an answer, and how long it may ask again."""

_PROGRAM = """
from tests.helpers.time_limits import lift_limits
lift_limits({limits})
from modeldrop.cli import program
program()
"""


def lift_limits(limits: Mapping[str, object] = REQUESTS, put: Callable[[object, str, object], None] = setattr) -> None:
    """Let these limits of this process be long; ``put`` sets one."""
    for name, value in limits.items():
        owner_name, _, attribute = name.rpartition(".")
        owner = pkgutil.resolve_name(owner_name)
        assert hasattr(owner, attribute), name
        put(owner, attribute, value)


def lift_limits_of_publishers(registry: str) -> None:
    """Let those of this process be long that count in publishing to a registry, by its URL."""
    lift_limits(PUBLISHERS.get(registry.partition("://")[0], {}))


def patient_modeldrop(limits: Mapping[str, object]) -> list[str]:
    """How to start a modeldrop whose limits of these names are long, in ``builds.environment``."""
    return [sys.executable, "-c", _PROGRAM.format(limits=json.dumps(limits))]


@pytest.fixture(autouse=True)
def limits_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all tests of a package whose conftest imports it."""
    lift_limits(put=monkeypatch.setattr)


@pytest.fixture(autouse=True)
def doctor_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, of what the doctor asks in this process."""
    lift_limits(DOCTOR, monkeypatch.setattr)
