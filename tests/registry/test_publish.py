from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import ConflictError, FormatError, IntegrityError, NotFoundError
from modeldrop.fetcher.fetch import fetch
from modeldrop.format import keys
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    parse_build_record,
    parse_claim,
    serialize_build_record,
    serialize_claim,
)
from modeldrop.registry.channels import move_forward
from modeldrop.registry.publish import ADOPTED, BUILT, UNCHANGED, Published, find_build
from modeldrop.registry.versions import claimed_numbers, find_version, get_version, version_numbers
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import (
    ReplyLosingStore,
    build_key,
    contents,
    digest_of,
    edit,
    make_build,
    publish_build,
    publish_folder,
    start,
)
from tests.helpers.rounds import rounds
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.format.manifest import File

CLAIM = Claim(nonce="somebody else", build_key=build_key("x"), by="dana", run="", at="2026-11-20T09:40:02Z")


class Recording(FolderStore):
    """A store that remembers what was written, in order."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.written: list[str] = []

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        self.written.append(key)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        super().swap(key, data, previous)
        self.written.append(key)

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        super().upload(key, path, file, piece_size, progress)
        self.written.append(key)


def again(registry: Path, seed: str, model: str = "embedder") -> Published:
    """Publish as the command does when it is run again."""
    store = FolderStore(str(registry))
    version = find_build(store, model, build_key(seed))
    if version is not None:
        return Published(store=store, version=version, how=UNCHANGED)
    make_build(registry.parent / "again", seed)
    return publish_folder(store, model, registry.parent / "again", adopt_seconds=0.2)


def test_claim_upload_decide_commit_in_this_order(registry: Path, tmp_path: Path) -> None:
    manifest = make_build(tmp_path / "build")
    store = Recording(str(registry))
    counted: list[int] = []
    published = publish_folder(store, "embedder", tmp_path / "build", progress=counted.append)
    first, *uploads, report, bom, record, commit = store.written
    assert first == "embedder/v1/claim.json"
    assert uploads == [f"embedder/v1/{file.path}" for file in manifest.files]
    assert [report, bom, record, commit] == [
        "embedder/v1/report.html",
        "embedder/v1/bom.cdx.json",
        f"embedder/builds/{build_key('a')}.json",
        "embedder/v1/manifest.json",
    ]
    assert sum(counted) == sum(file.size for file in manifest.files)
    assert published.how != ADOPTED
    assert published.version == find_version(store, "embedder", 1)
    claim = parse_claim((registry / "embedder/v1/claim.json").read_bytes())
    kept = parse_build_record((registry / record).read_bytes())
    assert (kept.version, kept.nonce) == (1, claim.nonce)
    assert (claim.build_key, claim.by) == (build_key("a"), "dana")
    for path, data in contents("a").items():
        assert (registry / "embedder/v1" / path).read_bytes() == data


def test_numbers_are_never_reused_after_burnt_claims(registry: Path) -> None:
    store = FolderStore(str(registry))
    publish_build(registry, "a")
    store.create(keys.claim("embedder", 2), serialize_claim(CLAIM))
    store.create(keys.claim("embedder", 9), serialize_claim(CLAIM))
    assert publish_build(registry, "b").number == 10
    assert version_numbers(store, "embedder") == [1, 10]
    assert claimed_numbers(store, "embedder") == [1, 2, 9, 10]
    with pytest.raises(NotFoundError, match="v9 of embedder has no manifest: its publisher"):
        get_version(store, "embedder", 9)
    with pytest.raises(NotFoundError, match="no version v3"):
        get_version(store, "embedder", 3)


def test_the_same_recipe_twice_is_one_version(registry: Path) -> None:
    first = publish_build(registry, "a")
    store = FolderStore(str(registry))
    assert find_build(store, "embedder", build_key("a")) == first
    assert find_build(store, "embedder", build_key("b")) is None
    second = publish_folder(store, "embedder", registry.parent / ".build-a-fp32-int8")
    assert second == Published(store=store, version=first, how=ADOPTED)
    assert version_numbers(store, "embedder") == [1]


def test_force_makes_a_new_version_of_the_same_recipe(registry: Path, tmp_path: Path) -> None:
    publish_build(registry, "a")
    store = FolderStore(str(registry))
    forced = publish_folder(store, "embedder", tmp_path / ".build-a-fp32-int8", force=True)
    assert (forced.version.number, forced.how) == (2, BUILT)
    found = find_build(store, "embedder", build_key("a"))
    assert found is not None
    assert found.number == 2
    assert version_numbers(store, "embedder") == [1, 2]


def test_a_record_of_a_version_never_committed_is_replaced_after_a_bounded_wait(registry: Path) -> None:
    store = FolderStore(str(registry))
    store.create(keys.claim("embedder", 1), serialize_claim(CLAIM))
    key = keys.build_record("embedder", build_key("a"))
    store.create(key, serialize_build_record(BuildRecord(1, CLAIM.nonce, CLAIM.at)))
    assert find_build(store, "embedder", build_key("a")) is None
    published = again(registry, "a")
    assert (published.version.number, published.how) == (2, BUILT)
    assert find_build(store, "embedder", build_key("a")) == published.version


def test_a_damaged_record_is_named_and_force_replaces_it(registry: Path, tmp_path: Path) -> None:
    publish_build(registry, "a")
    key = keys.build_record("embedder", build_key("a"))
    (registry / key).write_text("{")
    store = FolderStore(str(registry))
    with pytest.raises(FormatError, match=re.escape(f"{registry}/{key}: build record is not JSON")) as caught:
        find_build(store, "embedder", build_key("a"))
    assert "--force" in caught.value.hint
    with pytest.raises(FormatError, match=re.escape(key)):
        publish_folder(store, "embedder", tmp_path / ".build-a-fp32-int8")
    forced = publish_folder(store, "embedder", tmp_path / ".build-a-fp32-int8", force=True)
    assert find_build(store, "embedder", build_key("a")) == forced.version


def test_a_file_that_changes_after_the_build_stops_the_publish(registry: Path, tmp_path: Path) -> None:
    make_build(tmp_path / "build")
    edit(tmp_path / "build" / "onnx/model.onnx", contents("a")["onnx/model.onnx"][-4:], b"oops")
    store = FolderStore(str(registry))
    with pytest.raises(IntegrityError, match=r"onnx/model\.onnx changed while it was published"):
        publish_folder(store, "embedder", tmp_path / "build")
    assert version_numbers(store, "embedder") == []
    assert find_build(store, "embedder", build_key("a")) is None
    assert again(registry, "a").version.number == 2


def test_a_late_owner_cannot_commit_over_a_seal(registry: Path, tmp_path: Path) -> None:
    class SealedMeanwhile(FolderStore):
        def create(self, key: str, data: bytes) -> None:
            if key.endswith("/manifest.json"):
                super().create(key, b'{"sealed": true}\n')
            super().create(key, data)

    make_build(tmp_path / "build")
    with pytest.raises(ConflictError, match=r"v1 of embedder in .* was sealed before its upload was finished"):
        publish_folder(SealedMeanwhile(str(registry)), "embedder", tmp_path / "build")


def test_lost_replies_make_one_version_and_one_move(registry: Path, tmp_path: Path) -> None:
    store = ReplyLosingStore(str(registry))
    for number, seed in enumerate("ab", 1):
        make_build(tmp_path / seed, seed)
        published = publish_folder(store, "embedder", tmp_path / seed)
        assert (published.version.number, published.how) == (number, BUILT)
        moved = move_forward(store, "embedder", published.version, "current", by="dana")
        assert (moved.moved, moved.after, moved.generation) == (True, number, number)
    assert claimed_numbers(store, "embedder") == [1, 2]


# These two system calls are what makes anything appear in a registry.
KILLED_PUBLISHER = """
import sys
from pathlib import Path
from tests.helpers.builds import publish_build
from tests.helpers.crash_injection import kill_at
from tests.helpers.unsynced import wait_for_no_disk
registry, model, seed, fatal = sys.argv[1:]
wait_for_no_disk()
kill_at(int(fatal), "link", "replace")
publish_build(Path(registry), seed, model=model)
"""
STEPS = 2 * (11 + 1)  # 11 links (claim, 5 files, report, bill, record, manifest, move), then the channel is replaced


@pytest.mark.rounds
@pytest.mark.parametrize("before", [False, True], ids=["first version", "second version"])
@pytest.mark.parametrize("offset", range(4))
def test_a_publisher_killed_at_any_step(registry: Path, tmp_path: Path, before: bool, offset: int) -> None:
    for step in range(STEPS - offset, 0, -8 // rounds(1, 2)):
        model = f"m{step}"
        if before:
            publish_build(registry, "a", model=model)
        process = start(KILLED_PUBLISHER, registry, model, "b", step)
        _, errors = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == -signal.SIGKILL, errors
        store = FolderStore(str(registry))
        new = 2 if before else 1
        committed = find_version(store, model, new) is not None
        for reference in (model, f"{model}@v{new}"):
            try:
                snapshot = fetch(f"{registry}/{reference}", tmp_path / "home")
            except NotFoundError:
                assert not (before and reference == model), step
                assert not committed or reference == model, step
            else:
                seed = "b" if snapshot.version == new else "a"
                for path in (file.path for file in snapshot.manifest.files if "fp32" not in file.path):
                    if (snapshot.path / path).exists():
                        assert (snapshot.path / path).read_bytes() == contents(seed)[path]
        published = again(registry, "b", model)
        assert (published.how in {ADOPTED, UNCHANGED}) == committed
        assert published.version.number == (new if committed else new + 1)
        move_forward(store, model, published.version, "current", by="dana")
        assert fetch(f"{registry}/{model}", tmp_path / "home").version == published.version.number
        assert digest_of(registry, published.version.number, model) == published.version.digest


def test_the_step_after_the_last_is_a_finished_publish(registry: Path) -> None:
    process = start(KILLED_PUBLISHER, registry, "embedder", "b", STEPS + 1)
    assert process.wait(HANG_SECONDS) == 0
    process.communicate()
    assert version_numbers(FolderStore(str(registry)), "embedder") == [1]
