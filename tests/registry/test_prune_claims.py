"""Abandoned claims and unfinished uploads."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import ConflictError, NotFoundError
from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import (
    get_version,
)
from modeldrop.storage.write.folder import FolderStore
from modeldrop.storage.write.store import UnfinishedUpload
from tests.helpers.builds import build_key, make_build, publish_build, publish_folder
from tests.registry.aged_registry import (
    DAY,
    HOUR,
    AgedRegistry,
    SleepingStore,
    StoreWithUploads,
    outcomes,
    reasons_kept,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modeldrop.storage.write.store import ListedObject


def test_an_abandoned_claim_is_sealed_and_swept(make_registry: Callable[..., AgedRegistry]) -> None:
    two = make_registry(2)
    two.claim(7)
    assert outcomes(two.prune()) == []
    assert reasons_kept(two.prune()) == {7: "is being uploaded: it was written to within the last 24h"}
    pruned = two.prune(DAY + 10)
    assert [(step.action, step.version, step.size, step.outcome) for step in pruned.steps] == [
        ("abandon", 7, len(b"half a model"), "done")
    ]
    assert two.left(7) == {"claim.json", "manifest.json"}
    with pytest.raises(NotFoundError, match=r"v7 of embedder was pruned on .*: never finished"):
        get_version(two.store, "embedder", 7)
    assert publish_build(two.registry, "new", channel=None).number == 8


def test_any_object_written_within_the_grace_keeps_a_claim(make_registry: Callable[..., AgedRegistry]) -> None:
    two = make_registry(2)
    two.claim(7)
    two.age(10 * DAY)
    assert outcomes(two.prune(apply=False)) == [("abandon", 7, "")]
    os.utime(two.registry / "embedder/v7/onnx/model.onnx")
    assert outcomes(two.prune(apply=False)) == []


def test_the_build_record_of_another_version_stays(make_registry: Callable[..., AgedRegistry]) -> None:
    three = make_registry(3)
    forced = publish_folder(three.store, "embedder", three.registry.parent / ".build-s0-fp32-int8", force=True)
    assert three.seal().steps[0].version == 1
    assert find_build(three.store, "embedder", build_key("s0")) == forced.version


@pytest.mark.parametrize("sleep", range(2, 10))  # 1 is the claim, then 5 files, report, record, manifest
def test_a_publisher_that_wakes_up_after_its_claim_was_sealed_cannot_commit(
    make_registry: Callable[..., AgedRegistry], tmp_path: Path, sleep: int
) -> None:
    two = make_registry(2)
    make_build(tmp_path / "late", "late")
    late = SleepingStore(str(two.registry), sleep, lambda: two.prune(3 * DAY))
    with pytest.raises(ConflictError):
        publish_folder(late, "embedder", tmp_path / "late")
    assert two.numbers() == [1, 2]
    assert find_build(two.store, "embedder", build_key("late")) is None
    with pytest.raises(NotFoundError, match="was pruned"):
        get_version(two.store, "embedder", 3)
    # What it wrote after the seal goes with the next run; a run of the same recipe gets a new number.
    two.prune(3 * DAY)
    assert two.left(3) == {"claim.json", "manifest.json"}
    assert outcomes(two.prune(3 * DAY)) == []
    again = publish_folder(two.store, "embedder", tmp_path / "late", adopt_seconds=0.1)
    assert again.version.number == 4


def test_an_owner_who_finishes_just_before_the_seal_has_finished(
    make_registry: Callable[..., AgedRegistry], tmp_path: Path
) -> None:
    two = make_registry(2)
    make_build(tmp_path / "late", "late")

    class FinishedMeanwhile(FolderStore):
        def create(self, key: str, data: bytes) -> None:
            if key.endswith("v7/manifest.json"):
                super().create(key, (tmp_path / "late/manifest.json").read_bytes())
            super().create(key, data)

    two.claim(7)
    pruned = two.prune(2 * DAY, store=FinishedMeanwhile(str(two.registry)))
    assert outcomes(pruned) == [("abandon", 7, "its owner has finished it")]
    assert two.numbers() == [1, 2, 7]
    assert "onnx/model.onnx" in two.left(7)


def test_an_owner_who_writes_again_before_the_seal_goes_on(make_registry: Callable[..., AgedRegistry]) -> None:
    two = make_registry(2)
    two.claim(7)
    two.age(10 * DAY)

    class WritesAgain(FolderStore):
        def objects(self, prefix: str) -> Iterator[ListedObject]:
            if prefix.endswith("/v7"):
                os.utime(two.registry / "embedder/v7/onnx/model.onnx")
            return super().objects(prefix)

    pruned = two.prune(store=WritesAgain(str(two.registry)))
    assert outcomes(pruned) == [("abandon", 7, "its owner is writing to it again")]
    assert "manifest.json" not in two.left(7)


def test_uploads_never_finished_are_aborted_after_the_grace(make_registry: Callable[..., AgedRegistry]) -> None:
    two = make_registry(2)
    now = time.time()
    old = UnfinishedUpload("embedder/v2/onnx/model.onnx", "a", now - 2 * DAY)
    twin = UnfinishedUpload("embedder/v2/onnx/model.onnx", "b", now - 2 * DAY)
    young = UnfinishedUpload("embedder/v2/onnx/model.onnx", "c", now - HOUR)
    other = UnfinishedUpload("embedder-large/v2/onnx/model.onnx", "d", now - 2 * DAY)
    store = StoreWithUploads(str(two.registry), old, twin, young, other)
    assert outcomes(two.prune(store=store, apply=False)) == [("abort", 2, "")] * 2
    assert len(store.uploads) == 4
    assert outcomes(two.prune(store=store)) == [("abort", 2, "done")] * 2
    assert store.uploads == [young, other]


def test_an_upload_begun_within_the_grace_keeps_a_claim_and_its_other_uploads(
    make_registry: Callable[..., AgedRegistry],
) -> None:
    two = make_registry(2)
    two.claim(7)
    two.age(10 * DAY)
    now = time.time()
    first = UnfinishedUpload("embedder/v7/onnx/model.onnx_data", "a", now - 2 * DAY)
    second = UnfinishedUpload("embedder/v7/onnx/model_fp16.onnx", "b", now - HOUR)
    store = StoreWithUploads(str(two.registry), first, second)
    assert outcomes(two.prune(store=store)) == []
    assert outcomes(two.prune(2 * DAY, store=store)) == [("abandon", 7, "done"), *[("abort", 7, "done")] * 2]


def test_files_put_there_by_hand_are_nobodys_version(make_registry: Callable[..., AgedRegistry]) -> None:
    two = make_registry(2)
    (two.registry / "embedder/v9").mkdir()
    (two.registry / "embedder/v9/notes.txt").write_text("mine")
    assert outcomes(two.prune(90 * DAY)) == []
