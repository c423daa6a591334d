"""Registries to test with: a folder, and the clouds that run on this machine.

``tests/conftest.py`` offers these fixtures to every test. A server starts when the first test asks for it,
and once in a process.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING, Protocol

import pytest

from modeldrop.util.retry import backoff
from tests.helpers.time_limits import PUBLISHERS, lift_limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.servers.interface import CloudServer
    from tests.servers.s3 import S3Server

CLOUDS = ("s3", "gcs", "azure")
_SERVERS = {
    "s3": "S3Server",
    "gcs": "GCSServer",
    "azure": "AzureServer",
    "fakegcs": "FakeGCSServer",
    "s3rver": "S3RverServer",
    "seaweedfs": "SeaweedFSServer",
}
_WRITERS = {
    "s3": "s3.connection",
    "gcs": "gcs.client",
    "azure": "azure.store",
    "fakegcs": "gcs.client",
    "s3rver": "s3.connection",
}
"""Modules below ``modeldrop.storage.write`` that pause before they ask again."""
_SCHEMES = {"s3.connection": "s3", "gcs.client": "gs", "azure.store": "az"}
_FOREIGN = ("AWS_", "AZURE_", "BOTO_", "CLOUDSDK_", "GCE_", "GCLOUD_", "GOOGLE_", "OBJECT_STORE_", "STORAGE_EMULATOR_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Servers:
    """The servers of this process by name, started when asked for."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, CloudServer] = {}

    def __getitem__(self, name: str) -> CloudServer:
        if name not in self._running:
            server: CloudServer = getattr(importlib.import_module(f"tests.servers.{name}"), _SERVERS[name])()
            self._running[name] = self._stack.enter_context(server)
        return self._running[name]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers; nothing has started yet."""
    with contextlib.ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> CloudServer:
    """Each cloud in turn; this process's environment is signed in to it, and to nothing else."""
    return _use(servers, request.param, monkeypatch)


@pytest.fixture
def cloud_registry(cloud: CloudServer) -> str:
    """The URL of an empty registry in each cloud in turn."""
    return cloud.registry()


@pytest.fixture(params=("folder", *CLOUDS))
def any_registry(
    request: pytest.FixtureRequest, servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """The folder or URL of an empty registry: a folder, then each cloud in turn."""
    if request.param == "folder":
        return str(tmp_path / "registry")
    return _use(servers, request.param, monkeypatch).registry()


def representatives(*names: str) -> pytest.MarkDecorator:
    """Give a test these kinds of ``any_registry`` in ``make test``; all other kinds too in ``make soak``.

    For what takes seconds and rests on promises that ``tests/conformance`` tries of every kind.
    """
    kinds = ("folder", *CLOUDS)
    assert set(names) <= set(kinds)
    values = [pytest.param(kind, marks=() if kind in names else pytest.mark.soak) for kind in kinds]
    return pytest.mark.parametrize("any_registry", values, indirect=True)


@pytest.fixture
def s3(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """S3, with no rules; this process is signed in to it."""
    from tests.servers.s3 import S3Server

    server = _use(servers, "s3", monkeypatch)
    assert isinstance(server, S3Server)
    server.reset()
    yield server
    server.reset()


@pytest.fixture
def foreign_gcs(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a registry in a Cloud Storage that this project did not write."""
    return _use(servers, "fakegcs", monkeypatch).registry()


@pytest.fixture
def lookalike(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a registry in a service that accepts conditional writes and ignores their conditions."""
    return _use(servers, "s3rver", monkeypatch).registry()


def _use(servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch) -> CloudServer:
    """Sign in to a server, where what is refused or lost is asked for again at once."""
    sign_in(monkeypatch, servers[name])
    shorten_pauses(monkeypatch, name)
    return servers[name]


def shorten_pauses(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the publisher's client of this service ask as often as ever, and at once."""
    monkeypatch.setattr(importlib.import_module(f"modeldrop.storage.write.{_WRITERS[name]}"), "backoff", _short)


def _short(failures: int, first: float, longest: float) -> float:
    return backoff(failures, first / 20, longest)


class _HasEnvironment(Protocol):
    @property
    def environment(self) -> Mapping[str, str]: ...


def sign_in(monkeypatch: pytest.MonkeyPatch, *servers: _HasEnvironment) -> None:
    """Give this process the environment of these servers' clients, and nothing of other clouds or proxies."""
    sign_out(monkeypatch)
    for server in servers:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        if writer := _WRITERS.get(getattr(server, "name", "")):
            lift_limits(PUBLISHERS[_SCHEMES[writer]], monkeypatch.setattr)


def sign_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every cloud's variables, and the proxies, from this process's environment."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
