"""Checkpoint folders as sources."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from modeldrop.errors import DiskError, SourceError, UsageError
from modeldrop.export.sources import resolve_source
from modeldrop.export.sources.disk import check_safetensors
from modeldrop.export.sources.file_choice import SAFETENSORS_INDEX
from modeldrop.export.sources.folder import FolderSource
from tests.export.source_folders import model, safetensors, tree, write


def test_hands_over_exactly_what_is_needed(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    write(folder, {"optimizer.pt": b"x", "checkpoint-5/model.safetensors": b"x", "1_Pooling/config.json": b"{}"})
    calls: list[tuple[str, int, int]] = []
    source = FolderSource(folder)
    out = source.materialize(tmp_path / "out", lambda name, done, total: calls.append((name, done, total)))
    wanted = {"config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"}
    assert set(tree(out)) == wanted
    assert {name for name, *_ in calls} == wanted
    assert all(done == total for _, done, total in calls)
    assert (out / "model.safetensors").is_symlink()


def test_says_what_it_is(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", **{"README.md": b"---\nlicense: mit\n---\n", "modules.json": b"[1]"})
    source = resolve_source(str(folder))
    assert (source.spec, source.repository, source.commit) == (str(folder), None, None)
    assert source.licence == "mit"
    assert source.config() == {"model_type": "bert"}
    assert source.modules() == [1]
    assert source.weight_bytes() == len(safetensors())


def test_has_no_modules_and_no_licence_where_there_are_none(tmp_path: Path) -> None:
    source = FolderSource(model(tmp_path))
    assert source.modules() is None
    assert source.licence is None


@pytest.mark.parametrize("own", ["0_StaticEmbedding/", ""])
def test_static_embeddings_have_no_config(own: str, tmp_path: Path) -> None:
    """sentence-transformers before 5 keeps them in a folder of their own."""
    modules = [{"path": own.strip("/"), "type": "sentence_transformers.models.StaticEmbedding"}]
    files = {f"{own}tokenizer.json": b"{}", f"{own}model.safetensors": safetensors()}
    folder = write(tmp_path / "m", {"modules.json": json.dumps(modules).encode(), **files})
    source = FolderSource(folder)
    assert source.config()["model_type"] == "model2vec"
    assert set(tree(source.materialize(tmp_path / "out"))) == {"modules.json", "tokenizer.json", "model.safetensors"}


def test_identity_is_of_what_influences_the_build(tmp_path: Path) -> None:
    first = FolderSource(model(tmp_path / "a")).identity
    assert first.startswith("sha256:")
    assert len(first) == len("sha256:") + 64
    assert FolderSource(model(tmp_path / "b")).identity == first

    same = write(model(tmp_path / "c"), {"README.md": b"x", "LICENSE": b"x", "optimizer.pt": b"x", "a.onnx": b""})
    assert FolderSource(same).identity == first

    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        changed = model(tmp_path / f"d{name}", **{name: safetensors(b"1" * 16) if "model" in name else b'{"a":1}'})
        assert FolderSource(changed).identity != first
    more = model(tmp_path / "e", **{"special_tokens_map.json": b"{}"})
    assert FolderSource(more).identity != first


def test_identity_is_the_documented_digest(tmp_path: Path) -> None:
    import hashlib

    folder = model(tmp_path)
    lines = sorted(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in tree(folder).items())
    assert FolderSource(folder).identity == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("how", ["./m", "m", "../x/m", "{}/m", "file://{}/m", "m/"])
def test_ways_to_write_a_folder(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "x"
    model(home / "m")
    monkeypatch.chdir(home)
    assert resolve_source(how.format(home)).config() == {"model_type": "bert"}


def test_home_and_escaped_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(tmp_path / "a b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_source("~/a b").identity == resolve_source(f"file://{tmp_path}/a%20b").identity


@pytest.mark.parametrize("spec", ["", "nothing", "a/b/c", "file://host/x", "a\0b", "bad name/x"])
def test_refuses_what_is_no_source(spec: str) -> None:
    with pytest.raises(UsageError):
        resolve_source(spec)


def test_shows_no_secret_of_a_url() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_source("https://me:secret@huggingface.co/acme/m?signature=secret")
    assert "secret" not in str(caught.value)
    assert "Did you mean acme/m?" in caught.value.hint


def test_suggests_the_id_for_a_page_of_the_hub() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_source("https://huggingface.co/acme/m/tree/v2")
    assert "Did you mean acme/m@v2?" in caught.value.hint


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"config.json": None}, r"no config\.json"),
        ({"config.json": b"{"}, r"config\.json of .* is not valid JSON"),
        ({"config.json": b"[]"}, "not a JSON object"),
        ({"model.safetensors": None}, "no weights"),
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "only pickle weights"),
        (
            {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"},
            "Git LFS pointer",
        ),
    ],
)
def test_refuses_a_spoilt_folder_at_once(spoil: dict[str, bytes | None], message: str, tmp_path: Path) -> None:
    folder = model(tmp_path)
    for name, data in spoil.items():
        (folder / name).unlink(missing_ok=True)
        if data is not None:
            (folder / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        FolderSource(folder)


def test_refuses_a_missing_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        resolve_source(str(tmp_path / "no"))
    (tmp_path / "f").touch()
    with pytest.raises(SourceError, match="is a file"):
        resolve_source(str(tmp_path / "f"))


def test_refuses_truncated_weights(tmp_path: Path) -> None:
    whole = safetensors(b"x" * 100)
    source = FolderSource(model(tmp_path / "m", **{"model.safetensors": whole[:-40]}))
    expected = rf"model\.safetensors of .* truncated: it has {len(whole) - 40} bytes, {len(whole)} were expected"
    with pytest.raises(SourceError, match=expected):
        source.materialize(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"1234", "truncated"),
        ((50).to_bytes(8, "little") + b"{}", "truncated: it has 10 bytes, at least 58"),
        (b"\x80\x04\x95" + b"x" * 90, "not a safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "does not parse"),
        ((2).to_bytes(8, "little") + b"{x", "does not parse"),
        ((7).to_bytes(8, "little") + b'{"a":1}', "does not parse"),
        (safetensors() + b"x", "damaged"),
    ],
)
def test_what_is_no_safetensors_file(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(SourceError, match=message):
        check_safetensors(tmp_path / "m", "m")


def sharded(folder: Path) -> Path:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    shards = {name: safetensors(name.encode()) for name in index["weight_map"].values()}
    return write(folder, {"config.json": b"{}", SAFETENSORS_INDEX: json.dumps(index).encode()} | shards)


def test_shards(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m")
    source = FolderSource(folder)
    assert set(tree(source.materialize(tmp_path / "out"))) == set(tree(folder))
    assert source.weight_bytes() == 2 * len(safetensors(b"model-00001-of-00002.safetensors"))


def test_refuses_a_missing_shard(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceError, match=r"lacks model-00002-of-00002\.safetensors: 1 of the 2 shards"):
        FolderSource(folder)


def test_follows_links_out_of_the_folder(tmp_path: Path) -> None:
    model(tmp_path / "blobs")
    (tmp_path / "m").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "m" / path.name).symlink_to(Path("..") / "blobs" / path.name)
    source = FolderSource(tmp_path / "m")
    assert tree(source.materialize(tmp_path / "out")) == tree(tmp_path / "blobs")
    (tmp_path / "blobs" / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="which does not exist"):
        FolderSource(tmp_path / "m")


def test_works_from_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    assert set(tree(resolve_source("./m").materialize(tmp_path / "a" / "out"))) == set(tree(tmp_path / "m"))


def test_notices_a_folder_that_changes(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    source = FolderSource(folder)
    (folder / "model.safetensors").write_bytes(safetensors(b"longer than it was"))
    with pytest.raises(SourceError, match="has changed"):
        _ = source.identity
    with pytest.raises(SourceError, match="has changed"):
        source.materialize(tmp_path / "out")


def test_refuses_a_destination_that_is_not_empty(tmp_path: Path) -> None:
    source = FolderSource(model(tmp_path / "m"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(DiskError, match="not empty"):
        source.materialize(tmp_path / "out")


def test_says_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    folder = model(tmp_path)
    monkeypatch.setattr(Path, "open", denied)  # root, who runs this in a container, may read everything
    with pytest.raises(SourceError, match=r"config\.json of .* cannot be read: Permission denied"):
        FolderSource(folder)


def test_a_folder_needs_no_huggingface_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert resolve_source(str(model(tmp_path))).identity
