from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.builds import publisher_environment
from tests.helpers.clouds import sign_in
from tests.servers.ceph import CephServer
from tests.servers.swift import SwiftServer
from tests.service.conftest import published

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["published", "publisher_environment"]


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[CephServer]:
    with CephServer() as server:
        yield server


@pytest.fixture(scope="session")
def swift_server() -> Iterator[SwiftServer]:
    with SwiftServer() as server:
        yield server


@pytest.fixture
def ceph(ceph_server: CephServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty registry in Ceph; this process is signed in to it."""
    sign_in(monkeypatch, ceph_server)
    return ceph_server.registry()


@pytest.fixture
def swift(swift_server: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty registry in Swift; this process is signed in to it."""
    sign_in(monkeypatch, swift_server)
    return swift_server.registry()
