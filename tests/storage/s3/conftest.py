from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.storage.write.s3 import connection
from modeldrop.storage.write.s3 import store as s3
from modeldrop.storage.write.s3.store import S3BucketStore
from tests.helpers.clouds import Servers, sign_in
from tests.servers.s3 import S3Server
from tests.storage.s3.stores import PART, open_s3

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def small_parts_and_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SINGLE", "MIN_PART", "_RANGE"):
        monkeypatch.setattr(s3, name, PART)
    monkeypatch.setattr(connection, "_MAX_PAUSE", 0.05)


@pytest.fixture
def server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    found = servers["s3"]
    assert isinstance(found, S3Server)
    found.reset()
    sign_in(monkeypatch, found)
    yield found
    found.reset()


@pytest.fixture
def store(server: S3Server) -> S3BucketStore:
    made = open_s3(server.registry())
    server.reset()
    return made
