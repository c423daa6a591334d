"""Checkpoints and ONNX files in buckets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import SourceError
from modeldrop.export.sources import resolve_source
from modeldrop.export.sources.file_choice import SAFETENSORS_INDEX
from modeldrop.storage.write import open_store
from tests.export.source_folders import ready, safetensors, tree
from tests.helpers.builds import publish_build

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": safetensors(b"one"),
    "README.md": b"---\nlicense: mit\n---\n",
}
TRAINING = {
    "optimizer.pt": b"x",
    "rng_state.pth": b"x",
    "runs/events.out": b"x",
    "checkpoint-5/model.safetensors": b"x",
}


def upload(url: str, files: Mapping[str, bytes]) -> str:
    store = open_store(url)
    for name, data in files.items():
        stored = store.get(name)
        store.swap(name, data, stored.tag if stored else None)
    return url


def test_a_checkpoint_of_a_training_job(cloud_registry: str, tmp_path: Path) -> None:
    url = upload(f"{cloud_registry}/job-7/checkpoint", MODEL | TRAINING)
    source = resolve_source(url)
    assert (source.spec, source.worker, source.licence) == (url, "export", "mit")
    assert source.config() == {"model_type": "bert"}
    assert source.modules() is None
    assert source.weight_bytes() == len(MODEL["model.safetensors"])
    told: dict[str, tuple[int, int]] = {}
    out = source.materialize(tmp_path / "out", lambda name, done, total: told.update({name: (done, total)}))
    assert tree(out) == MODEL
    assert told == {name: (len(data), len(data)) for name, data in MODEL.items()}


def test_its_identity_is_of_what_is_loaded(cloud_registry: str) -> None:
    url = upload(f"{cloud_registry}/checkpoint", MODEL)
    before = resolve_source(url).identity
    assert before.startswith(f"{url}@sha256:")
    upload(url, TRAINING)
    assert resolve_source(url).identity == before
    upload(url, {"model.safetensors": safetensors(b"two")})
    assert resolve_source(url).identity != before


def test_shards_are_found_by_their_index(cloud_registry: str, tmp_path: Path) -> None:
    files = {name: data for name, data in MODEL.items() if name != "model.safetensors"}
    files |= {SAFETENSORS_INDEX: b'{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}'}
    url = upload(f"{cloud_registry}/big", files | {"m-1.safetensors": safetensors(b"1")})
    with pytest.raises(SourceError, match=r"lacks m-2\.safetensors"):
        resolve_source(url)
    upload(url, {"m-2.safetensors": safetensors(b"2")})
    assert {"m-1.safetensors", "m-2.safetensors"} < set(tree(resolve_source(url).materialize(tmp_path / "out")))


def test_a_trainer_that_still_uploads_is_noticed(cloud_registry: str, tmp_path: Path) -> None:
    url = upload(f"{cloud_registry}/checkpoint", MODEL)
    source = resolve_source(url)
    upload(url, {"config.json": b'{"model_type": "else"}'})
    with pytest.raises(SourceError, match=r"config\.json of .* has changed since it was looked at first"):
        source.materialize(tmp_path / "out")


def test_a_truncated_upload_is_refused(cloud_registry: str, tmp_path: Path) -> None:
    url = upload(f"{cloud_registry}/checkpoint", MODEL | {"model.safetensors": MODEL["model.safetensors"][:-1]})
    with pytest.raises(SourceError, match=r"model\.safetensors of .* is truncated"):
        resolve_source(url).materialize(tmp_path / "out")


def test_onnx_files_come_with_their_data(cloud_registry: str, tmp_path: Path) -> None:
    files = tree(ready(tmp_path / "m", external="weights.bin"))
    url = upload(f"{cloud_registry}/exports", files)
    for spec in (url, f"{url}#onnx/model.onnx"):
        source = resolve_source(spec)
        assert source.worker == "adopt"
        assert tree(source.materialize(tmp_path / f"out-{spec.count('#')}")) == files


@pytest.mark.parametrize("what", ["nothing", "no checkpoint"])
def test_what_is_not_there_is_said(what: str, cloud_registry: str) -> None:
    if what == "nothing":
        with pytest.raises(SourceError, match=f"There is nothing at {cloud_registry}/typo"):
            resolve_source(f"{cloud_registry}/typo")
    else:
        upload(f"{cloud_registry}/other", {"notes.txt": b"x"})
        with pytest.raises(SourceError, match=r"has no config\.json"):
            resolve_source(f"{cloud_registry}/other")


def test_a_published_model_is_named_by_its_version(cloud_registry: str) -> None:
    upload(f"{cloud_registry}/embedder", {"v1/manifest.json": b"{}", "current": b"{}"})
    with pytest.raises(SourceError, match="is a model that modeldrop published") as caught:
        resolve_source(f"{cloud_registry}/embedder")
    assert f"{cloud_registry}/embedder@current" in caught.value.hint


def test_a_version_is_downloaded_with_its_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "registry"
    version = publish_build(registry)
    monkeypatch.setenv("MODELDROP_REGISTRY", str(registry))
    for spec in (
        f"{registry}/embedder@current",
        f"{registry}/embedder@v1",
        f"file://{registry}/embedder@v1",
        "embedder@v1",
    ):
        source = resolve_source(spec)
        assert source.identity == f"modeldrop:{version.digest}"
        assert source.config() == {"model_type": "bert"}
    out = tree(source.materialize(tmp_path / "out"))
    assert "onnx/model.onnx" in out
    assert "onnx/model_quantized.onnx" not in out
    path = registry / "embedder/v1/onnx/model.onnx"
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    from modeldrop.errors import IntegrityError

    with pytest.raises(IntegrityError, match=r"onnx/model\.onnx does not have the digest"):
        source.materialize(tmp_path / "again")
