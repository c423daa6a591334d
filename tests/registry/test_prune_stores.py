"""What prune does on every kind of store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import NotFoundError, RefusedError
from modeldrop.format import keys
from modeldrop.format.channel import Channel, Move, serialize_channel
from modeldrop.format.records import (
    Seal,
    serialize_seal,
)
from modeldrop.registry.channels import promote, unretire
from modeldrop.registry.protection import time_text
from modeldrop.registry.prune import Pruned, PruneRules, prune, store_clock
from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import (
    Version,
    find_version,
    get_channel,
    get_version,
    list_folders,
    read_channel,
    version_numbers,
)
from modeldrop.storage.write import open_store
from tests.helpers.builds import build_key, make_build, publish_folder
from tests.helpers.clouds import representatives
from tests.registry.aged_registry import (
    DAY,
    SEALED_FILES,
    Killed,
    outcomes,
)

if TYPE_CHECKING:
    from modeldrop.storage.write.store import Store, StoredObject

KEEP_ONE = PruneRules(keep=1, older_than=0, grace=DAY)


@pytest.fixture
def published(any_registry: str, tmp_path: Path) -> tuple[Store, list[Version]]:
    """Three versions, the last one current, in a folder and in each cloud."""
    store = open_store(any_registry)
    versions = []
    for seed in "abc":
        make_build(tmp_path / seed, seed)
        versions.append(publish_folder(store, "embedder", tmp_path / seed).version)
    promote(store, "embedder", versions[-1], "current", by="dana")
    return store, versions


def later(store: Store, days: float, *, apply: bool = True) -> Pruned:
    return prune(store, "embedder", KEEP_ONE, now=time.time() + days * DAY, apply=apply, by="dana")


def test_any_store_both_phases(published: tuple[Store, list[Version]], tmp_path: Path) -> None:
    store, _ = published
    make_build(tmp_path / "d", "d")

    def crash(_: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        publish_folder(store, "embedder", tmp_path / "d", progress=crash)
    assert outcomes(later(store, 0)) == []
    assert outcomes(later(store, 2, apply=False)) == [("abandon", 4, ""), ("retire", 2, ""), ("retire", 1, "")]
    later(store, 2)
    assert version_numbers(store, "embedder") == [1, 2, 3]
    assert outcomes(later(store, 4)) == [("seal", 1, "done"), ("seal", 2, "done")]
    assert version_numbers(store, "embedder") == [3]
    assert sorted(listed.key for listed in store.objects("embedder/v1")) == [
        f"embedder/v1/{one}" for one in sorted(SEALED_FILES)
    ]
    assert [one.emptied for one in list_folders(store, "embedder")] == [True, True, False, True]
    for number in (1, 2, 4):
        with pytest.raises(NotFoundError, match="was pruned"):
            get_version(store, "embedder", number)
    assert find_build(store, "embedder", build_key("a")) is None
    assert outcomes(later(store, 6)) == []


@representatives("folder", "azure")
def test_any_store_named_between_the_seals(published: tuple[Store, list[Version]]) -> None:
    store, versions = published
    later(store, 2)
    sealed = serialize_seal(Seal(time_text(time.time()), "", "", manifest=(stored_manifest(store, 1)).data.decode()))
    store.swap(keys.manifest("embedder", 1), sealed, stored_manifest(store, 1).tag)
    # Killed here, and a promoter that had read the manifest before has written its move and died too.
    move = Move(
        version=1,
        digest=versions[0].digest,
        generation=1,
        nonce="nonce",
        action="promote",
        by="ops",
        at=time_text(time.time()),
    )
    store.create(keys.channel("embedder", "staging"), serialize_channel(Channel(move)))
    assert outcomes(later(store, 4)) == [("seal", 1, "staging names it"), ("seal", 2, "done")]
    assert find_version(store, "embedder", 1) == versions[0]
    assert outcomes(later(store, 4)) == [("unretire", 1, "done")]


def stored_manifest(store: Store, number: int) -> StoredObject:
    stored = store.get(keys.manifest("embedder", number))
    assert stored is not None
    return stored


@representatives("folder", "gcs")
def test_any_store_promote_refuses_what_is_retired(published: tuple[Store, list[Version]]) -> None:
    store, _ = published
    later(store, 2)
    for channel in ("current", "staging"):
        with pytest.raises(RefusedError, match="is retired"):
            promote(store, "embedder", 1, channel, by="ops")
    assert get_channel(store, "embedder", "current").version == 3
    assert read_channel(store, "embedder", "staging") == (None, None)
    assert unretire(store, "embedder", 1)
    assert promote(store, "embedder", 1, "current", by="ops").after == 1


def test_any_store_has_a_clock(any_registry: str) -> None:
    store = open_store(any_registry)
    Path(any_registry).mkdir(parents=True, exist_ok=True) if "://" not in any_registry else None
    before = time.time()
    assert before - 2 < store_clock(store) < time.time() + 2  # HTTP's dates have seconds
    assert store.names("") == []


def test_a_bucket_loses_unfinished_uploads(cloud_registry: str) -> None:
    store: Any = open_store(cloud_registry)
    scheme = cloud_registry.partition("://")[0]
    if scheme == "s3":
        store.client.create_multipart_upload(Bucket=store.bucket.name, Key=store._key("embedder/v1/x"))
    elif scheme == "gs":
        assert store._multipart.begin("embedder/v1/x")
    # Azure lists none: it drops blocks by itself after a week.
    uploads = store.unfinished("embedder")
    assert len(uploads) == (scheme != "az")
    # Nothing is said of a young one here: moto gives every upload the same date in 2010.
    assert outcomes(later(store, 2)) == [("abort", 1, "done")] * len(uploads)
    assert store.unfinished("embedder") == []
