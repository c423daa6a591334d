"""After any change, updated pages are the same as pages that are written anew."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop.commands import prune
from modeldrop.errors import RegistryError
from modeldrop.format.channel import parse_channel
from modeldrop.format.records import (
    Rejection,
    Retirement,
    Seal,
    serialize_rejection,
    serialize_retirement,
    serialize_seal,
)
from modeldrop.registry.channels import promote, rollback
from modeldrop.site import document, upkeep, writing
from modeldrop.site import pages as site_pages
from modeldrop.site.document import read_chunk, read_model_rows
from modeldrop.site.places import SITE_FOLDER, FolderPlace, RegistryPlace
from modeldrop.site.writing import update_site, write_site
from modeldrop.storage.write import open_store
from modeldrop.storage.write.folder import FolderStore
from modeldrop.storage.write.store import Store
from tests.helpers.builds import make_build, publish_folder
from tests.helpers.command_line import run_here
from tests.helpers.paper_registry import CountingStore, add_paper_version, make_paper_registry

WHEN = "2026-11-20T10:00:00Z"
MODEL = "model-000"
CHUNK = 3
LAST = 2 * CHUNK


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    """A registry with pages, whose model has as many versions as fit on its page: few, so that it is soon made."""
    monkeypatch.setattr(document, "CHUNK", CHUNK)
    monkeypatch.setattr(site_pages, "CHUNK", CHUNK)
    store = CountingStore(str(make_paper_registry(tmp_path / "registry", 2, 2 * CHUNK)))
    write_site(store, RegistryPlace(store))
    store.forget()
    return store


def publish(store: CountingStore) -> list[int]:
    registry = Path(store.url)
    number = max(int(path.name[1:]) for path in (registry / MODEL).glob("v*")) + 1
    add_paper_version(registry, MODEL, number)
    promote(store, MODEL, number, "current", by="dana")
    return [number]


def roll_back(store: CountingStore) -> list[int]:
    rollback(store, MODEL, "current", by="dana", why="worse on short queries")
    return []


def stage(store: CountingStore) -> list[int]:
    promote(store, MODEL, 3, "staging", by="erin")
    return []


def reject(store: CountingStore) -> list[int]:
    mark = serialize_rejection(Rejection(WHEN, "dana", "", "exit code 1"))
    (Path(store.url) / MODEL / f"v{LAST}/rejected.json").write_bytes(mark)
    return [LAST]


def retire(store: CountingStore) -> list[int]:
    mark = serialize_retirement(Retirement(WHEN, "dana", "not among the newest 5"))
    (Path(store.url) / MODEL / "v2/retired.json").write_bytes(mark)
    return [2]


def seal(store: CountingStore) -> list[int]:
    (Path(store.url) / MODEL / "v1/manifest.json").write_bytes(
        serialize_seal(Seal(WHEN, "dana", "not among the newest"))
    )
    return [1]


def damage(store: CountingStore) -> list[int]:
    (Path(store.url) / MODEL / f"v{LAST - 1}/manifest.json").write_bytes(b"{")
    return [LAST - 1]


def pages(store: Store) -> dict[str, bytes]:
    """The pages in a registry, by their paths."""
    found = {listed.key: store.get(listed.key) for listed in store.objects(SITE_FOLDER)}
    return {key.removeprefix(f"{SITE_FOLDER}/"): stored.data for key, stored in found.items() if stored is not None}


def anew(store: Store) -> dict[str, bytes]:
    """The pages as they are when all are written."""
    with tempfile.TemporaryDirectory() as folder:
        write_site(store, FolderPlace(Path(folder), RegistryPlace.beside))
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


CHANGES = [publish, roll_back, stage, reject, retire, seal, damage]


def test_updated_pages_are_those_that_are_written_anew(store: CountingStore) -> None:
    for change in [*CHANGES, publish, publish]:
        update_site(store, MODEL, change(store))
        assert pages(store) == anew(store), change.__name__


@pytest.mark.parametrize(
    ("change", "most", "manifests"),
    [(publish, 6, 2), (roll_back, 5, 2), (stage, 5, 1), (reject, 4, 1), (retire, 5, 1), (seal, 6, 2)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_only_what_changes_is_read_and_written(
    store: CountingStore, change: Callable[[CountingStore], list[int]], most: int, manifests: int
) -> None:
    changed = change(store)
    store.forget()
    update_site(store, MODEL, changed)
    assert len(store.writes) <= most, store.writes
    assert len(store.manifests) <= manifests
    assert len(set(store.manifests)) == len(store.manifests)
    assert all(key.startswith(f"{SITE_FOLDER}/") for key in store.writes)


def test_without_a_change_nothing_is_written(store: CountingStore) -> None:
    update_site(store, MODEL, [LAST])
    assert store.writes == []


def test_the_first_update_writes_all_pages(tmp_path: Path) -> None:
    store = FolderStore(str(make_paper_registry(tmp_path / "registry", 2, 2)))
    update_site(store, MODEL, [2])
    assert pages(store) == anew(store)


@pytest.mark.parametrize("path", ["index.html", f"m/{MODEL}/data-2.js"])
def test_damaged_pages_are_written_anew(store: CountingStore, path: str) -> None:
    right = pages(store)
    RegistryPlace(store).write(path, b"damaged")
    update_site(store, MODEL, [])
    assert pages(store) == right


def test_updates_at_the_same_time_lose_nothing(store: CountingStore) -> None:
    changed = publish(store)
    other = add_paper_version(Path(store.url), "model-001", LAST + 1)
    assert other
    both = threading.Barrier(2)

    class Meeting(CountingStore):
        """Both updates have read the registry's page before either writes it."""

        met = False

        def names(self, prefix: str) -> list[str]:
            if not self.met:
                self.met = True
                both.wait()
            return super().names(prefix)

    failed: list[BaseException] = []

    def update(model: str, numbers: list[int]) -> None:
        try:
            update_site(Meeting(store.url), model, numbers)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=update, args=one) for one in ((MODEL, changed), ("model-001", [LAST + 1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    rows = read_model_rows(pages(store)["index.html"], "index.html")
    assert (rows[MODEL].newest, rows["model-001"].newest) == (LAST + 1, LAST + 1)
    assert pages(store) == anew(store)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """A registry of which modeldrop.toml says that its pages are kept."""
    (tmp_path / "modeldrop.toml").write_text('[registries.main]\nurl = "./models"\nsite = true\n')
    monkeypatch.setenv("MODELDROP_CONFIG", str(tmp_path / "modeldrop.toml"))
    store = FolderStore(str(tmp_path / "models"))
    for seed in "ab":
        make_build(tmp_path / seed, seed)
        publish_folder(store, "embedder", tmp_path / seed)
    return store


def test_commands_keep_the_pages(kept: FolderStore) -> None:
    for arguments, current in (
        (["promote", f"{kept.url}/embedder@v1"], "v1"),
        (["promote", f"{kept.url}/embedder@v2"], "v2"),
        (["rollback", f"{kept.url}/embedder", "--why", "worse"], "v1"),
    ):
        code, _, err = run_here(*arguments)
        assert (code, err) == (0, "")
        rows = read_model_rows(pages(kept)["index.html"], "index.html")
        assert rows["embedder"].channels == {"current": int(current[1:])}
        assert pages(kept) == anew(kept)


def test_what_changes_a_registry_in_a_cloud_keeps_its_pages(
    cloud_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modeldrop.toml").write_text(f'[registries.main]\nurl = "{cloud_registry}"\nsite = true\n')
    monkeypatch.setenv("MODELDROP_CONFIG", str(tmp_path / "modeldrop.toml"))
    store, model = open_store(cloud_registry), f"{cloud_registry}/embedder"
    for seed in "abc":
        make_build(tmp_path / seed, seed)
        upkeep.keep_site(store, "embedder", [publish_folder(store, "embedder", tmp_path / seed).version.number])
        assert pages(store) == anew(store)
    clean_up = ["prune", model, "--keep", "1", "--older-than", "1d", "--yes"]
    for days, arguments, state in (
        (0, ["promote", f"{model}@v2"], "published"),
        (0, ["promote", f"{model}@v3"], "published"),
        (0, ["rollback", model, "--why", "worse"], "published"),
        (9, clean_up, "retired"),
        (99, clean_up, "sealed"),
    ):
        monkeypatch.setattr(prune, "store_clock", lambda _, days=days: time.time() + days * 86_400)
        code, _, err = run_here(*arguments)
        assert (code, "warning" in err) == (0, False), err
        assert pages(store) == anew(store), arguments
        [oldest, *_] = read_chunk(pages(store)["m/embedder/data-1.js"], "")
        assert (oldest.number, oldest.state) == (1, state)


def test_a_channel_that_is_removed_leaves_the_pages(kept: FolderStore) -> None:
    assert run_here("promote", f"{kept.url}/embedder@v1", "--channel", "pr-17")[0] == 0
    assert run_here("channel", "rm", f"{kept.url}/embedder", "--channel", "pr-17")[0] == 0
    assert read_model_rows(pages(kept)["index.html"], "index.html")["embedder"].channels == {}
    assert pages(kept) == anew(kept)


def test_pages_that_cannot_be_written_fail_nothing(kept: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (RegistryError("The disk is full.", "Free some."), KeyError("a defect")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(writing, "update_site", fail)
        code, out, err = run_here("promote", f"{kept.url}/embedder@v{1 if isinstance(error, KeyError) else 2}")
        assert code == 0
        assert "current → v" in out
        assert "modeldrop: warning: the registry's pages were not updated:" in err
        assert "modeldrop site --publish" in err
    assert parse_channel((Path(kept.url) / "embedder/current").read_bytes()).version == 1


def test_elsewhere_no_pages_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FolderStore(str(tmp_path / "models"))
    make_build(tmp_path / "a")
    publish_folder(store, "embedder", tmp_path / "a")
    upkeep.keep_site(store, "embedder", [1])
    assert not (tmp_path / "models" / SITE_FOLDER).exists()
