"""Large files are sent from the disk, block by block, and what is sent is what was verified."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import IntegrityError
from modeldrop.format.manifest import File
from modeldrop.storage.write import open_store
from modeldrop.storage.write.multipart import PartBody, split_parts
from tests.helpers.builds import PIECE, describe
from tests.helpers.clouds import CLOUDS, shorten_pauses, sign_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from pathlib import Path

    from modeldrop.storage.write.store import Store
    from tests.helpers.clouds import Servers

KEY = "embedder/v1/onnx/model.onnx"
PART = 16 << 20


@pytest.fixture(params=CLOUDS)
def store(request: pytest.FixtureRequest, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Store:
    server: Any = servers[request.param]
    server.reset()  # other tests let it lack this or that
    sign_in(monkeypatch, server)
    shorten_pauses(monkeypatch, server.name)
    return open_store(server.registry())


def test_less_than_a_part_is_in_memory_at_any_time(store: Store, tmp_path: Path) -> None:
    path, data = tmp_path / "model.onnx", bytes(2 * PART + 1)
    path.write_bytes(data)
    file = describe("model.onnx", data)
    del data
    store.names("")  # what signing in takes is not for the file
    tracemalloc.start()
    try:
        store.upload(KEY, path, file, PIECE, lambda _: None)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < PART // 2


def upload_what_changes(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[FileIO, PartBody], object]
) -> None:
    """Upload a file of two parts that ``change`` changes as soon as one of them is verified."""
    data = bytes(PART + 1)
    path.write_bytes(data)
    verify = PartBody.verify

    def verify_then_change(body: PartBody, *updates: Callable[[bytes], object]) -> None:
        verify(body, *updates)
        with path.open("r+b", buffering=0) as changing:
            change(changing, body)

    monkeypatch.setattr(PartBody, "verify", verify_then_change)
    store.upload(KEY, path, describe("model.onnx", data), PIECE, lambda _: None)


def test_a_file_that_changes_while_it_is_sent_is_noticed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite(file: FileIO, body: PartBody) -> None:
        file.seek(body.part.start)
        file.write(b"other")

    with pytest.raises(IntegrityError):
        upload_what_changes(store, tmp_path / "model.onnx", monkeypatch, overwrite)
    assert not store.exists(KEY)


def test_a_file_that_shrinks_while_it_is_sent_is_noticed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IntegrityError, match="changed while it was published: it"):
        upload_what_changes(store, tmp_path / "model.onnx", monkeypatch, lambda file, _: file.truncate(1))
    assert not store.exists(KEY)


def test_large_files_go_in_larger_parts() -> None:
    def lengths(pieces: int, size: int) -> list[int]:
        file = File("model.onnx", pieces * size - 1, "0" * 64, ("0" * 64,) * pieces)
        parts = split_parts(file, size, PART, 4 * PART)
        assert [part.start for part in parts] == [sum(part.length for part in parts[:at]) for at in range(len(parts))]
        assert sum(part.length for part in parts) == file.size
        return [part.length for part in parts]

    mebi = 1 << 20
    assert lengths(100, mebi)[0] == PART
    assert lengths(320, mebi)[0] == 20 * mebi
    assert (lengths(1025, mebi)[0], len(lengths(1025, mebi))) == (4 * PART, 17)
    assert lengths(3, 8 * PART) == [8 * PART, 8 * PART, 8 * PART - 1]
