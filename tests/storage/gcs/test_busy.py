"""A service that refuses because it is asked too often: Google takes about one write a second of the same object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from modeldrop.errors import ConflictError, RegistryError
from modeldrop.storage.write import open_store
from modeldrop.storage.write.gcs import store as gcs_store
from tests.helpers import concurrent_publishers
from tests.helpers.clouds import sign_in
from tests.helpers.concurrent_publishers import race
from tests.helpers.rounds import rounds
from tests.registry.scenarios import one_line, publish_seed
from tests.storage.gcs.stores import open_gcs, sent, stored

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.storage.write.gcs.store import GCSBucketStore
    from tests.helpers.clouds import Servers
    from tests.servers.gcs import GCSServer

KEY = "embedder/current"
PROMOTERS = 16


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which take no time."""
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


def tag_of(store: GCSBucketStore) -> str:
    found = store.get(KEY)
    assert found is not None
    return found.tag


@pytest.mark.parametrize("status", [429, 503])
def test_the_object_is_looked_at_before_each_further_write(
    store: GCSBucketStore, server: GCSServer, slept: list[float], status: int
) -> None:
    store.create(KEY, b"1")
    tag = tag_of(store)
    server.reset()
    server.fail(status, "rateLimitExceeded", method="POST", times=12)
    store.swap(KEY, b"2", tag)
    assert stored(store, KEY) == b"2"
    assert sent(server)[:-1] == [*["POST", "GET"] * 12, "POST"]
    assert len(slept) == 12
    assert all(pause <= 8 for pause in slept)
    assert min(slept[4:]) >= 4


def test_a_refused_writer_does_not_overwrite_who_came_first(
    store: GCSBucketStore, server: GCSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(KEY, b"1")
    tag = tag_of(store)
    monkeypatch.setattr("time.sleep", lambda _: open_gcs(store.url).swap(KEY, b"theirs", tag))
    server.reset()
    server.fail(429, "rateLimitExceeded", method="POST")
    with pytest.raises(ConflictError):
        store.swap(KEY, b"2", tag)
    assert stored(store, KEY) == b"theirs"
    assert sent(server) == ["POST", "POST", "GET", "GET"]  # refused, theirs, looked, read by this test


def test_it_is_left_alone_for_as_long_as_it_asks(store: GCSBucketStore, server: GCSServer, slept: list[float]) -> None:
    server.fail(429, "rateLimitExceeded", method="POST", retry_after="17")
    store.create(KEY, b"1")
    server.fail(503, "backendError", method="GET", retry_after="3")
    assert stored(store, KEY) == b"1"
    assert slept == [17, 3]


def test_in_the_end_it_says_when_to_come_back(
    store: GCSBucketStore, server: GCSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_store, "_BUSY_RETRY", replace(gcs_store._BUSY_RETRY, limit=0.0))
    server.fail(429, "rateLimitExceeded", message="Please reduce your request rate.", method="POST", retry_after="40")
    with pytest.raises(RegistryError, match=r"answered 429 \(Please reduce your request rate\)") as caught:
        store.create(KEY, b"1")
    assert "one write of the same object a second. Run the same command again in 40 s" in caught.value.hint


@pytest.mark.rounds
def test_sixteen_promoters_of_one_channel_all_succeed(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = cast("GCSServer", servers["gcs"])
    sign_in(monkeypatch, server)
    url = server.registry()
    store = open_store(url)
    versions = rounds(4, PROMOTERS)
    for number in range(versions):
        publish_seed(store, tmp_path, str(number))
    server.pace(rounds(1, 10) / 10)
    try:
        moved = sum(race(concurrent_publishers.promote_one, PROMOTERS, url, tmp_path, versions))
    finally:
        server.reset()
    assert one_line(store).generation == versions + moved
