"""The conformance checks of a version's files: in one request and in parts, read back whole and in ranges."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING

from modeldrop.conformance.documents import LIMIT
from modeldrop.conformance.sample import describe_bytes, noise, write_build, write_file
from modeldrop.conformance.scratch import (
    LackError,
    NonconformantError,
    NotApplicableError,
    ScratchModel,
    equal,
    expect,
    expect_refusal,
)
from modeldrop.errors import ConflictError, IntegrityError, ModeldropError, NotFoundError, RegistryError
from modeldrop.format.manifest import MIN_PIECE_SIZE, PIECE_SIZE, File
from modeldrop.registry.channels import move_forward
from modeldrop.registry.publish import read_build
from modeldrop.registry.replicate import commit_all, stage_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.storage.write.store import UnfinishedUpload

_CLOCK_SECONDS = 15 * 60
_NAME = "onnx/model.onnx"
_IMMUTABLE, _CHECKED = "public, max-age=31536000, immutable", "no-cache"


def upload_small(scratch: ScratchModel) -> None:
    """A small file arrives whole, is counted to its size, and comes back the same; so does one of a single byte."""
    for size in (1, 3 * MIN_PIECE_SIZE + 77):
        _upload_and_check(scratch, size, MIN_PIECE_SIZE)


def upload_around_the_part_size(scratch: ScratchModel) -> None:
    """So does a file that is just small enough for one request, and one that has a byte too many."""
    for size in (part_size(scratch) - 1, part_size(scratch), part_size(scratch) + 1):
        _upload_and_check(scratch, size, PIECE_SIZE)


def upload_in_parts(scratch: ScratchModel) -> None:
    """So does a file of several parts; a fetcher reads it in ranges, within parts and across them."""
    part = part_size(scratch)
    size = 2 * part + 17
    key, data = _upload_and_check(scratch, size, PIECE_SIZE, keep=True)
    reader = scratch.open_reader()
    for start, length in ((0, 1), (1, 4096), (part - 7, 14), (part, part), (size - 7, 100), (size, 10), (size + 5, 10)):
        found = reader.read(key, start, length)
        expect(
            found == data[start : start + length],
            f"{length} bytes from {start} of {size}: the fetcher read {len(found)} bytes, or other ones",
        )
    if "://" in scratch.store.url:
        _expect_headers(scratch, f"v1/{_NAME}", "application/octet-stream", _IMMUTABLE)


def upload_small_pieces(scratch: ScratchModel) -> None:
    """Pieces smaller than the parts that a service takes are no obstacle."""
    _upload_and_check(scratch, part_size(scratch) + MIN_PIECE_SIZE + 5, MIN_PIECE_SIZE)


def upload_refuses_other_bytes(scratch: ScratchModel) -> None:
    """A file that is not what the manifest says is not stored."""
    key = scratch.key(f"v1/{_NAME}")
    for size, piece_size in ((MIN_PIECE_SIZE, MIN_PIECE_SIZE), (part_size(scratch) + 17, PIECE_SIZE)):
        data = noise("meant", size)
        file = describe_bytes(_NAME, data, piece_size)
        for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"x"):
            write_file(scratch.folder, _NAME, wrong, piece_size)
            try:
                _upload(scratch, key, file, piece_size)
            except IntegrityError:
                pass
            else:
                raise NonconformantError(f"a file of {len(wrong)} wrong bytes was uploaded as one of {size} bytes")
    equal(scratch.store.exists(key), False, "exists after refused uploads")
    _nothing_unfinished(scratch)


def upload_over_another(scratch: ScratchModel) -> None:
    """An upload never replaces an object."""
    store = scratch.store
    for number, (size, piece_size) in enumerate(((100, MIN_PIECE_SIZE), (part_size(scratch) + 17, PIECE_SIZE))):
        taken = scratch.key(f"v1/{_NAME}{number}")
        file = write_file(scratch.folder, _NAME, noise("ours", size), piece_size)
        other = noise("theirs", 100)
        store.create(taken, other)
        upload = functools.partial(_upload, scratch, taken, file, piece_size)
        expect_refusal(upload, f"an upload of {size} bytes over others")
        equal(scratch.present(taken).data, other, "the object after the refused upload")
        store.delete(taken)
        _upload(scratch, taken, file, piece_size)
        with contextlib.suppress(ConflictError):  # it may look at the bytes, or only at who wrote them
            _upload(scratch, taken, file, piece_size)
        store.download(taken, scratch.folder / f"back{number}", lambda _: None)
        same = (scratch.folder / f"back{number}").read_bytes() == noise("ours", size)
        expect(same, "a second upload of our own bytes changed them")
        _nothing_unfinished(scratch)


def completion_over_another(scratch: ScratchModel) -> None:
    """An upload in parts does not replace an object that was created while its parts were sent."""
    store, key, other = scratch.store, scratch.key(f"v1/{_NAME}"), b"theirs"
    file = write_file(scratch.folder, _NAME, noise("ours", part_size(scratch) + 17), PIECE_SIZE)
    created: list[bool] = []

    def create(_: int) -> None:
        if not created:
            try:
                store.create(key, other)
                created.append(True)
            except ConflictError:
                created.append(False)  # the upload that was begun has taken the key

    try:
        _upload(scratch, key, file, PIECE_SIZE, create)
    except ConflictError:
        equal(scratch.present(key).data, other, "the object after the refused upload")
        _nothing_unfinished(scratch)
        return
    if created[0]:
        raise LackError("it ignores create-only where an upload in parts is completed")
    equal(next(iter(store.objects(scratch.model))).size, file.size, "the size of the object that was uploaded")


def unfinished_uploads(scratch: ScratchModel) -> None:
    """An upload in parts is listed until it is finished, and can be aborted; then nothing comes of it."""
    store, key = scratch.store, scratch.key(f"v1/{_NAME}")
    if not store.url.startswith(("s3://", "gs://")):
        raise NotApplicableError("the store itself removes what was begun and never finished")
    file = write_file(scratch.folder, _NAME, noise("unfinished", part_size(scratch) + 17), PIECE_SIZE)
    listed: list[UnfinishedUpload] = []
    failures: list[ModeldropError] = []

    def abort(_: int) -> None:
        if not listed and not failures:
            try:
                listed.extend(store.unfinished(scratch.model))
                for upload in listed:
                    store.abort(upload)
                    store.abort(upload)
            except ModeldropError as error:
                failures.append(error)

    try:
        _upload(scratch, key, file, PIECE_SIZE, abort)
    except ModeldropError:
        if not listed:
            raise
    else:
        if listed:
            raise NonconformantError("an upload in parts was finished after it had been aborted")
        why = f": {failures[0].message}" if failures else ""
        raise LackError(f"it does not list uploads in parts that were begun and not finished{why}")
    equal([upload.key for upload in listed], [key], "the upload that was not finished")
    equal(store.exists(key), False, "exists after the upload was aborted")
    _nothing_unfinished(scratch)
    ago = time.time() - listed[0].started
    if abs(ago) > _CLOCK_SECONDS:
        raise LackError(f"it says that an upload that was begun just now was begun {ago:.0f} s ago")


def headers(scratch: ScratchModel) -> None:
    """Readers may cache a version for ever, and ask for a channel every time; types are what they are."""
    if "://" not in scratch.store.url:
        raise NotApplicableError("a folder serves no headers")
    small = write_file(scratch.folder, "vocab.txt", b"a\nb\n", PIECE_SIZE)
    _upload(scratch, scratch.key("v1/vocab.txt"), small, PIECE_SIZE)
    scratch.store.create(scratch.key("v1/manifest.json"), b"{}")
    scratch.store.create(scratch.key("current"), b"{}")
    scratch.store.swap(scratch.key("current"), b'{"a":1}', scratch.present(scratch.key("current")).tag)
    _expect_headers(scratch, "v1/vocab.txt", "text/plain; charset=utf-8", _IMMUTABLE)
    _expect_headers(scratch, "v1/manifest.json", "application/json", _CHECKED)
    _expect_headers(scratch, "current", "application/json", _CHECKED)


def crossed(scratch: ScratchModel) -> None:
    """What the publisher's SDK wrote, the fetcher's reader reads: whole, and what is not there."""
    missing = scratch.key("v1/missing.json")
    scratch.store.create(scratch.key("current"), b"one")
    reader = scratch.open_reader()
    equal(reader.get(missing, LIMIT), None, "what is not there, read by the fetcher")
    equal(reader.get(scratch.key("current"), LIMIT), b"one", "a small object, read by the fetcher")
    equal(reader.read(scratch.key("current"), 1, 1), b"n", "a byte of a small object, read by the fetcher")
    try:
        reader.get(scratch.key("current"), 2)
    except IntegrityError:
        pass
    else:
        raise NonconformantError("the fetcher read more than its limit")
    try:
        reader.read(missing, 0, 10)
    except (RegistryError, NotFoundError):
        return
    raise NonconformantError("the fetcher read a range of what is not there")


def publish_and_fetch(scratch: ScratchModel) -> None:
    """A build is published, and fetched back byte for byte."""
    from modeldrop.fetcher.fetch import fetch

    contents = write_build(scratch.folder / "build")
    staged = stage_all([scratch.store], scratch.model, read_build(scratch.folder / "build"))
    version = commit_all(staged, scratch.folder / "copy")[0].version
    moved = move_forward(scratch.store, scratch.model, version, "current", by="conformance")
    equal((version.number, moved.moved, moved.generation), (1, True, 1), "version, whether moved, generation")
    snapshot = fetch(f"{scratch.store.url}/{scratch.model}", scratch.folder / "home")
    equal((snapshot.version, snapshot.digest), (1, version.digest), "the version and digest that were fetched")
    for path, data in contents.items():
        expect((snapshot.path / path).read_bytes() == data, f"{path} was fetched with other bytes")


def part_size(scratch: ScratchModel) -> int:
    """Bytes above which the store uploads in parts; a size for the same checks where it never does."""
    return scratch.store.part_size or PIECE_SIZE


def _upload(
    scratch: ScratchModel, key: str, file: File, piece_size: int, progress: Callable[[int], None] = lambda _: None
) -> None:
    scratch.store.upload(key, scratch.folder / file.path, file, piece_size, progress)


def _upload_and_check(scratch: ScratchModel, size: int, piece_size: int, *, keep: bool = False) -> tuple[str, bytes]:
    """Upload a file, look at it in every way and, unless it is kept, delete it; its key and bytes."""
    store, key, back = scratch.store, scratch.key(f"v1/{_NAME}"), scratch.folder / "back"
    data = noise(str(size), size)
    file = write_file(scratch.folder, _NAME, data, piece_size)
    counted: list[int] = []
    _upload(scratch, key, file, piece_size, counted.append)
    equal(sum(counted), size, f"the sum of the upload's progress, of {size} bytes")
    equal([(listed.key, listed.size) for listed in store.objects(scratch.model)], [(key, size)], "the listing")
    counted.clear()
    store.download(key, back, counted.append)
    equal(sum(counted), size, f"the sum of the download's progress, of {size} bytes")
    expect(back.read_bytes() == data, f"what was downloaded differs from the {size} bytes that were uploaded")
    _nothing_unfinished(scratch)
    back.unlink()
    if not keep:
        store.delete(key)
    return key, data


def _nothing_unfinished(scratch: ScratchModel) -> None:
    try:
        left = scratch.store.unfinished(scratch.model)
    except RegistryError:
        return  # they are not listed: the check of unfinished uploads says so
    equal(left, [], "uploads in parts that were begun and left")


def _expect_headers(scratch: ScratchModel, name: str, content_type: str, cache_control: str) -> None:
    found = scratch.headers(name)
    equal(found.get("Content-Type"), content_type, f"the content type of {name}")
    equal(found.get("Cache-Control"), cache_control, f"the cache control of {name}")
