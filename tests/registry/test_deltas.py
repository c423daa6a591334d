from __future__ import annotations

import re
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import RegistryError
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.verify import find_damage_of_copy
from modeldrop.format import keys
from modeldrop.format.deltas import decode_piece, delta_folder
from modeldrop.registry.channels import move_forward, promote
from modeldrop.registry.deltas import WantedDeltas, add_deltas, forget_base, read_delta_index
from modeldrop.registry.prune import PruneRules, prune
from modeldrop.registry.publish import ADOPTED, BUILT, Adopt, commit, read_build, stage
from modeldrop.registry.replicate import replicate
from modeldrop.registry.versions import get_version, list_folders
from modeldrop.storage.write import open_store
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import PIECE, digest_of, make_build, publish_build, publish_folder, start
from tests.helpers.delta_builds import GRAPH, SIZE, publish_update, small_files_count, weights
from tests.helpers.waiting import HANG_SECONDS
from tests.registry.scenarios import HOUR, abandoned_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.format.manifest import File
    from modeldrop.registry.prune import Pruned
    from modeldrop.storage.write.store import Store

MODEL = "embedder"
AT_ONCE = PruneRules(keep=1, older_than=0.0, grace=0.0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_files_count(monkeypatch)


@pytest.fixture
def store(registry: Path) -> FolderStore:
    return FolderStore(str(registry))


def bases(store: Store, number: int) -> list[str]:
    """The digests of the versions that a version has deltas from."""
    index = read_delta_index(store, MODEL, number)
    return [] if index is None else [base.manifest for base in index.bases]


def there(registry: Path, number: int) -> set[str]:
    """What lies beside the files of a version."""
    folder = registry / MODEL / f"v{number}"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("deltas*/**/*") if path.is_file()}


def prune_after(hours: int, store: Store) -> Pruned:
    return prune(store, MODEL, AT_ONCE, now=time.time() + hours * HOUR, apply=True)


def test_what_a_registry_keeps_makes_the_file_of_its_base(store: FolderStore, registry: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        publish_update(str(registry), tmp_path, number)
    index = read_delta_index(store, MODEL, 2)
    assert index is not None
    assert [base.manifest for base in index.bases] == [digest_of(registry, 1)]
    (delta,) = index.bases[0].files
    assert (delta.path, delta.base_size, delta.width) == (GRAPH, SIZE, 1)
    data, old, at, made = (registry / MODEL / "v2" / delta.stored.path).read_bytes(), weights(1), 0, b""
    for piece, length in enumerate(delta.lengths):
        size = min(PIECE, SIZE - piece * PIECE)
        found = decode_piece(old[piece * PIECE :][:size], data[at : at + length], size)
        assert found is not None
        made, at = made + found, at + length
    assert made == weights(2)
    assert at == len(data) == delta.stored.size < 0.1 * SIZE


def test_deltas_change_nothing_of_the_version(registry: Path, tmp_path: Path) -> None:
    for name, deltas in (("with", 2), ("without", 0)):
        publish_update(str(registry / name), tmp_path, 1)
        publish_update(str(registry / name), tmp_path, 2, deltas=deltas)
    assert digest_of(registry / "with", 2) == digest_of(registry / "without", 2)
    assert there(registry / "with", 2)
    assert not there(registry / "without", 2)
    copy = shutil.copytree(registry / "with" / MODEL / "v2", tmp_path / "copy")
    manifest = read_build(copy).manifest
    assert find_damage_of_copy(copy, manifest, all_variants=True) == ([], ["int8"])


def test_bases_are_what_channels_name_the_wanted_channel_first(
    store: FolderStore, registry: Path, tmp_path: Path
) -> None:
    for number, channel in ((1, "old"), (2, "canary"), (3, "current"), (4, None)):
        publish_update(str(registry), tmp_path, number, channel=channel)
    assert bases(store, 4) == [digest_of(registry, 3), digest_of(registry, 2)]
    promote(store, MODEL, 1, "canary", by="dana")
    publish_update(str(registry), tmp_path, 5, channel=None, deltas=16)
    assert bases(store, 5) == [digest_of(registry, 3), digest_of(registry, 1)]  # canary and old name one version
    publish_update(str(registry), tmp_path, 6, channel=None, deltas=1)
    assert bases(store, 6) == [digest_of(registry, 3)]


def test_what_would_save_too_little_is_not_kept(store: FolderStore, registry: Path, tmp_path: Path) -> None:
    publish_build(registry, "a")
    publish_build(registry, "b")  # noise: no byte has to do with the one before
    assert bases(store, 2) == []
    assert not (registry / MODEL / "v2" / "deltas.json").exists()


def test_small_files_get_none(
    store: FolderStore, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.registry.deltas.MIN_FILE", SIZE + 1)
    for number in (1, 2):
        publish_update(str(registry), tmp_path, number)
    assert bases(store, 2) == []


class _NoDeltas(FolderStore):
    """A store that takes no delta."""

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        if "/deltas/" in key:
            raise RegistryError(f"Could not write {self.url}/{key}.")
        super().upload(key, path, file, piece_size, progress)


def _damage_base(registry: Path) -> None:
    graph = registry / MODEL / "v1" / GRAPH
    graph.chmod(0o644)
    graph.write_bytes(bytes(SIZE))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_damage_base, "from v1: .* does not have the digest"),
        (lambda registry: (registry / MODEL / "v1" / GRAPH).unlink(), "from v1: .*"),
        (lambda registry: (registry / MODEL / "v1" / "manifest.json").write_bytes(b"{"), "v1/manifest.json"),
    ],
)
def test_a_base_that_is_of_no_use_is_a_warning(
    store: FolderStore, registry: Path, tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    publish_update(str(registry), tmp_path, 1)
    publish_update(str(registry), tmp_path, 2, channel=None, deltas=0)
    spoil(registry)
    staged = stage(store, MODEL, read_build(tmp_path / f"build-2-{SIZE}"))
    (fault,) = add_deltas([staged], WantedDeltas(2, "current"), tmp_path / "scratch")
    assert re.search(why, fault)
    assert not (tmp_path / "scratch").exists()
    assert commit(staged, Adopt.NONE).how == BUILT
    assert bases(store, 3) == []


def test_a_registry_that_takes_no_deltas_gets_the_version(registry: Path, tmp_path: Path) -> None:
    store = _NoDeltas(str(registry))
    publish_update(str(registry), tmp_path, 1)
    publish_update(str(registry), tmp_path, 2, channel=None, deltas=0)
    staged = stage(store, MODEL, read_build(tmp_path / f"build-2-{SIZE}"))
    told: list[tuple[int, int]] = []
    faults = add_deltas(
        [staged], WantedDeltas(2, "current"), tmp_path / "scratch", lambda done, total: told.append((done, total))
    )
    assert faults == [f"from v1: Could not write {registry}/{MODEL}/v3/{delta_folder(digest_of(registry, 1))}/{GRAPH}."]
    assert told[-1] == (2 * SIZE, 2 * SIZE)
    assert not (registry / MODEL / "v3" / "deltas.json").exists()
    assert commit(staged, Adopt.NONE).version.number == 3


def test_prune_takes_the_deltas_of_a_version_and_those_from_it(
    store: FolderStore, registry: Path, tmp_path: Path
) -> None:
    publish_update(str(registry), tmp_path, 1)
    publish_update(str(registry), tmp_path, 2, channel="canary")
    publish_update(str(registry), tmp_path, 3)
    first, second = digest_of(registry, 1), digest_of(registry, 2)
    publish_update(str(registry), tmp_path, 4, channel=None)
    assert bases(store, 3) == [first, second]
    assert len(there(registry, 3)) == 2
    promote(store, MODEL, 3, "pinned", by="dana")
    for number in (5, 6):  # now nothing names v1 or v4, and no rollback would go there
        publish_update(str(registry), tmp_path, number, deltas=0)
    for hour in (1, 2):
        prune_after(hour, store)
    assert bases(store, 3) == [second]
    assert there(registry, 3) == {f"{delta_folder(second)}/{GRAPH}"}
    assert not there(registry, 4)
    assert not (registry / MODEL / "v4" / "deltas.json").exists()


def test_a_prune_that_is_killed_before_the_seal_is_made_up_for(
    store: FolderStore, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3, 4):
        publish_update(str(registry), tmp_path, number)
    prune_after(1, store)
    deleted: list[str] = []

    def killed(_store: FolderStore, key: str) -> None:
        deleted.append(key)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            prune_after(2, store)
    assert deleted[0].startswith(f"{MODEL}/v2/deltas/")
    assert bases(store, 2) == []
    assert there(registry, 2)
    prune_after(3, store)
    assert not there(registry, 2)
    assert set(bases(store, 4)) == {digest_of(registry, 3)}


class _Overtaken(FolderStore):
    """A store in which another prune is faster, once."""

    faster: Callable[[], None] | None = None

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        faster, self.faster = self.faster, None
        if faster is not None:
            faster()
        super().swap(key, data, previous)


def test_two_prunes_at_once_take_a_base_each(store: FolderStore, registry: Path, tmp_path: Path) -> None:
    publish_update(str(registry), tmp_path, 1)
    publish_update(str(registry), tmp_path, 2, channel="canary")
    publish_update(str(registry), tmp_path, 3)
    first, second = digest_of(registry, 1), digest_of(registry, 2)
    overtaken = _Overtaken(str(registry))
    overtaken.faster = lambda: forget_base(store, MODEL, second, list_folders(store, MODEL))
    forget_base(overtaken, MODEL, first, list_folders(store, MODEL))
    assert bases(store, 3) == []
    assert not there(registry, 3)


KILLED = """
import os, signal, sys
from pathlib import Path
from modeldrop.registry import deltas
from modeldrop.registry.publish import read_build, stage
from modeldrop.storage.write import open_store
deltas.MIN_FILE = 1 << 16
registry, build, scratch = sys.argv[1:]
staged = stage(open_store(registry), "embedder", read_build(Path(build)))
assert deltas.add_deltas([staged], deltas.WantedDeltas(2, "current"), Path(scratch)) == []
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_publisher_that_is_killed_before_its_manifest_leaves_nothing(
    store: FolderStore, registry: Path, tmp_path: Path
) -> None:
    publish_update(str(registry), tmp_path, 1)
    make_build(tmp_path / "build", "killed", variants=("int8",), own={GRAPH: weights(2)})
    killed = start(KILLED, registry, tmp_path / "build", tmp_path / "scratch")
    errors = killed.communicate(timeout=HANG_SECONDS)[1]
    assert killed.returncode == -signal.SIGKILL, errors
    assert there(registry, 2)
    assert abandoned_after(25 * HOUR, store, MODEL) == [2]
    assert {path.name for path in (registry / MODEL / "v2").rglob("*") if path.is_file()} == {
        "claim.json",
        "manifest.json",
    }


def test_of_two_publishers_one_commits_with_its_deltas(store: FolderStore, registry: Path, tmp_path: Path) -> None:
    publish_update(str(registry), tmp_path, 1)
    make_build(tmp_path / "build", "both", variants=("int8",), own={GRAPH: weights(2)})
    staged = [stage(store, MODEL, read_build(tmp_path / "build")) for _ in range(2)]
    for one in staged:
        assert add_deltas([one], WantedDeltas(2, "current"), tmp_path / "scratch") == []
    first, second = commit(staged[1], Adopt.ANY), commit(staged[0], Adopt.ANY)
    assert (first.how, second.how) == (BUILT, ADOPTED)
    assert first.version == second.version
    assert bases(store, first.version.number) == [digest_of(registry, 1)]
    move_forward(store, MODEL, first.version, "current", by="dana")
    assert fetch(f"{registry}/{MODEL}", tmp_path / "home").digest == first.version.digest


def test_deltas_go_to_every_registry_from_what_its_own_channels_name(tmp_path: Path) -> None:
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    publish_update(one, tmp_path, 1)
    publish_update(two, tmp_path, 2)
    publish_update(two, tmp_path, 1, channel="canary")
    make_build(tmp_path / "build", "everywhere", variants=("int8",), own={GRAPH: weights(3)})
    stores = [open_store(one), open_store(two)]
    staged = [stage(store, MODEL, read_build(tmp_path / "build")) for store in stores]
    assert add_deltas(staged, WantedDeltas(2, "current"), tmp_path / "scratch") == []
    for each in staged:
        commit(each, Adopt.NONE)
    assert bases(stores[0], 2) == [digest_of(tmp_path / "one", 1)]
    assert {*bases(stores[1], 3)} == {digest_of(tmp_path / "two", 1), digest_of(tmp_path / "two", 2)}
    alone, both = (read_delta_index(store, MODEL, number) for store, number in zip(stores, (2, 3), strict=True))
    assert alone is not None
    assert both is not None
    assert alone.bases[0] in both.bases


def test_a_mirror_gets_the_deltas_from_what_it_has(store: FolderStore, registry: Path, tmp_path: Path) -> None:
    publish_update(str(registry), tmp_path, 1)
    publish_update(str(registry), tmp_path, 2, channel="canary")
    last = publish_update(str(registry), tmp_path, 3).version
    assert len(bases(store, 3)) == 2
    target = FolderStore(str(tmp_path / "target"))
    (bare,) = replicate(store, MODEL, last, [FolderStore(str(tmp_path / "bare"))], tmp_path / "copy-0")
    assert bases(bare.store, bare.version.number) == []
    (copied,) = replicate(store, MODEL, get_version(store, MODEL, 2), [target], tmp_path / "copy-1")
    move_forward(target, MODEL, copied.version, "current", by="dana")
    (made,) = replicate(store, MODEL, last, [target], tmp_path / "copy-2")
    assert made.delta_faults == ()
    assert bases(target, made.version.number) == [digest_of(registry, 2)]
    path = f"{delta_folder(digest_of(registry, 2))}/{GRAPH}"
    copy = tmp_path / "target" / MODEL / f"v{made.version.number}" / path
    assert copy.read_bytes() == (registry / MODEL / "v3" / path).read_bytes()


def test_a_mirror_takes_no_delta_that_is_damaged(store: FolderStore, registry: Path, tmp_path: Path) -> None:
    publish_update(str(registry), tmp_path, 1)
    last = publish_update(str(registry), tmp_path, 2).version
    target = FolderStore(str(tmp_path / "target"))
    publish_folder(target, MODEL, tmp_path / f"build-1-{SIZE}")
    move_forward(target, MODEL, get_version(target, MODEL, 1), "current", by="dana")
    delta = registry / MODEL / "v2" / f"{delta_folder(digest_of(registry, 1))}/{GRAPH}"
    delta.chmod(0o644)
    delta.write_bytes(delta.read_bytes()[:-1] + b"?")
    (made,) = replicate(store, MODEL, last, [target], tmp_path / "copy")
    assert "does not have the digest" in made.delta_faults[0]
    assert made.version.digest == last.digest
    assert bases(target, 2) == []


def test_every_cloud(cloud_registry: str, tmp_path: Path) -> None:
    """Stored, taken and pruned as in a folder."""
    store = open_store(cloud_registry)
    for number in (1, 2, 3):
        publish_update(cloud_registry, tmp_path, number)
        snapshot = fetch(f"{cloud_registry}/{MODEL}", tmp_path / "home")
        assert (snapshot.path / GRAPH).read_bytes() == weights(number)
        assert (snapshot.figures.saved > 0.9 * SIZE) == (number > 1)
    for hour in (1, 2):
        prune_after(hour, store)
    assert [name for name in store.names(keys.folder(MODEL, 2)) if name == "deltas"] == []
    assert bases(store, 2) == []
    assert len(bases(store, 3)) == 1
