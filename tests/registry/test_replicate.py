from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import IntegrityError, NotFoundError, RegistryError
from modeldrop.fetcher.fetch import fetch
from modeldrop.format import keys
from modeldrop.registry.publish import ADOPTED, MIRRORED, UNCHANGED, find_build
from modeldrop.registry.replicate import find_copy, replicate
from modeldrop.registry.versions import claimed_numbers, find_version, version_numbers
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import (
    build_key,
    contents,
    digest_of,
    edit,
    make_build,
    publish_build,
    publish_everywhere,
    publish_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.format.manifest import File


class Broken(FolderStore):
    """A store that no file can be uploaded to."""

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        raise RegistryError(f"Could not write {self.url}/{key}.")


@pytest.fixture
def stores(tmp_path: Path) -> list[FolderStore]:
    return [FolderStore(str(tmp_path / name / "registry")) for name in ("one", "two", "three")]


def prepare(tmp_path: Path, seed: str = "a") -> Path:
    make_build(tmp_path / seed, seed)
    return tmp_path / seed


def test_one_build_goes_to_all_with_one_digest_and_numbers_of_their_own(
    stores: list[FolderStore], tmp_path: Path
) -> None:
    publish_build(tmp_path / "two" / "registry", "other")
    counted: list[int] = []
    published = publish_everywhere(stores, "embedder", prepare(tmp_path), tmp_path / "scratch", progress=counted.append)
    assert [item.version.number for item in published] == [1, 2, 1]
    assert len({item.version.digest for item in published}) == 1
    assert ADOPTED not in {item.how for item in published}
    assert sum(counted) == 3 * sum(map(len, contents("a").values()))
    for store, item in zip(stores, published, strict=True):
        assert find_build(store, "embedder", build_key("a")) == item.version


def test_no_registry_gets_a_version_before_every_upload_is_complete(stores: list[FolderStore], tmp_path: Path) -> None:
    broken = Broken(str(tmp_path / "broken"))
    with pytest.raises(RegistryError, match="broken"):
        publish_everywhere([*stores, broken], "embedder", prepare(tmp_path), tmp_path / "scratch")
    for store in stores:
        assert version_numbers(store, "embedder") == []
    published = publish_everywhere(stores, "embedder", prepare(tmp_path, "b"), tmp_path / "scratch")
    assert [item.version.number for item in published] == [2, 2, 2]


def test_where_another_publisher_was_first_all_get_what_it_made(stores: list[FolderStore], tmp_path: Path) -> None:
    other = publish_build(tmp_path / "one" / "registry", "a", variants=["fp32"])
    published = publish_everywhere(stores, "embedder", prepare(tmp_path), tmp_path / "scratch")
    assert published[0].how == ADOPTED
    assert {item.version.digest for item in published} == {other.digest}
    for store in stores:
        assert len(version_numbers(store, "embedder")) == 1


def test_the_first_registry_decides_for_the_others(stores: list[FolderStore], tmp_path: Path) -> None:
    other = publish_build(tmp_path / "two" / "registry", "a", variants=["fp32"])
    published = publish_everywhere(stores, "embedder", prepare(tmp_path), tmp_path / "scratch")
    assert {item.version.digest for item in published} != {other.digest}
    assert len({item.version.digest for item in published}) == 1
    assert published[1].version.number == 2


def test_force_makes_a_new_version_everywhere(stores: list[FolderStore], tmp_path: Path) -> None:
    build = prepare(tmp_path)
    publish_everywhere(stores, "embedder", build, tmp_path / "scratch")
    forced = publish_everywhere(stores, "embedder", build, tmp_path / "scratch", force=True)
    assert [item.version.number for item in forced] == [2, 2, 2]
    assert ADOPTED not in {item.how for item in forced}


def test_a_copy_has_the_same_bytes_and_digest_and_is_found_again(stores: list[FolderStore], tmp_path: Path) -> None:
    source, target, _ = stores
    publish_build(tmp_path / "two" / "registry", "other")
    publish_build(tmp_path / "one" / "registry", "zero")
    publish_build(tmp_path / "one" / "registry", "one")
    version = publish_build(tmp_path / "one" / "registry", "a")
    assert find_copy(target, "embedder", version) is None
    (copied,) = replicate(source, "embedder", version, [target], tmp_path / "scratch")
    assert (copied.version.number, copied.how, copied.version.digest) == (2, MIRRORED, version.digest)
    assert digest_of(tmp_path / "two" / "registry", 2) == version.digest
    for path, data in contents("a").items():
        assert (tmp_path / "two" / "registry" / "embedder" / "v2" / path).read_bytes() == data
    assert (tmp_path / "two/registry/embedder/v2/report.html").read_bytes() == (
        tmp_path / "one/registry/embedder/v3/report.html"
    ).read_bytes()
    (again,) = replicate(source, "embedder", version, [target], tmp_path / "never made")
    assert (again.version, again.how) == (copied.version, UNCHANGED)
    assert not (tmp_path / "never made").exists()
    snapshot = fetch(f"{tmp_path}/two/registry/embedder@v2@{version.digest}", tmp_path / "home")
    assert snapshot.model_file.read_bytes() == contents("a")["onnx/model_quantized.onnx"]


def test_a_copy_replaces_what_the_recipe_meant_there(stores: list[FolderStore], tmp_path: Path) -> None:
    publish_build(tmp_path / "two" / "registry", "a", variants=["fp32"])
    version = publish_build(tmp_path / "one" / "registry", "a")
    (copied,) = replicate(stores[0], "embedder", version, [stores[1]], tmp_path / "scratch")
    assert copied.version.number == 2
    assert find_build(stores[1], "embedder", build_key("a")) == copied.version


def test_a_damaged_version_is_not_copied(stores: list[FolderStore], tmp_path: Path) -> None:
    source, target, _ = stores
    version = publish_build(tmp_path / "one" / "registry", "a")
    damaged = tmp_path / "one" / "registry" / "embedder" / "v1" / "onnx" / "model.onnx"
    edit(damaged, contents("a")["onnx/model.onnx"][-4:], b"oops")
    with pytest.raises(IntegrityError, match=r"v1/onnx/model\.onnx does not have the digest"):
        replicate(source, "embedder", version, [target], tmp_path / "scratch")
    damaged.unlink()
    with pytest.raises(NotFoundError, match="is not there"):
        replicate(source, "embedder", version, [target], tmp_path / "again")
    assert claimed_numbers(target, "embedder") == []


def test_a_version_without_its_report_is_copied_all_the_same(stores: list[FolderStore], tmp_path: Path) -> None:
    version = publish_build(tmp_path / "one" / "registry", "a")
    (tmp_path / "one" / "registry" / keys.report("embedder", 1)).unlink()
    replicate(stores[0], "embedder", version, [stores[1]], tmp_path / "scratch")
    assert find_version(stores[1], "embedder", 1) == version
    assert "without a report" in (tmp_path / "two/registry/embedder/v1/report.html").read_text("utf-8")


def test_a_retried_publish_alone_adopts_what_was_distributed(stores: list[FolderStore], tmp_path: Path) -> None:
    build = prepare(tmp_path)
    published = publish_everywhere(stores, "embedder", build, tmp_path / "scratch")
    assert publish_folder(stores[2], "embedder", build).version == published[2].version
