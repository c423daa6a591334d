"""The conformance checks: what every store promises to a registry. ``CHECKS`` holds all of them.

Each is a plain function of a ``ScratchModel``; it fails with a sentence that says what the store did. None needs
pytest. They write a few dozen megabytes in all, below a scratch model of their own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from modeldrop.conformance.sample import describe_file, noise, write_build, write_file
from modeldrop.conformance.scratch import (
    NonconformantError,
    NotApplicableError,
    ScratchModel,
    equal,
    expect,
    expect_refusal,
    together,
)
from modeldrop.errors import ConflictError, IntegrityError, NotFoundError, RegistryError
from modeldrop.format.manifest import MIN_PIECE_SIZE, PIECE_SIZE, File
from modeldrop.registry.channels import move_forward
from modeldrop.registry.publish import read_build
from modeldrop.registry.replicate import commit_all, stage_all
from modeldrop.storage.write.conditional import wrong_tag
from modeldrop.storage.write.store import StoredObject

RIVALS = 16
MANY = 1005
"""More than the 1000 entries that a page holds on S3 and GCS. Azure's pages of 5000 would take a minute to fill."""

ODD_NAMES = (
    "#1.txt",
    "50%.txt",
    "50%25.txt",
    "<tag>&amp;.txt",
    "UPPER.txt",
    "a b.txt",
    "a%20b.txt",
    "a+b.txt",
    "größe 漢字 🔎.txt",
    "what?x=1&y=2.txt",
    "~!@$'()[]{}^`,;=-_.txt",
)
_LIMIT = 1 << 20
_CLOCK_SECONDS = 15 * 60
_MULTIPART_SIZE = PIECE_SIZE + (1 << 20) + 17
_SMALL_PIECES_SIZE = (6 << 20) + 5


@dataclass(frozen=True, slots=True)
class Check:
    """One promise.

    Attributes:
        title: the promise, in a few words.
        run: raises NonconformantError where it is not kept, NotApplicableError where it cannot be looked at, and
            ModeldropError where the store fails otherwise.
        slow: it makes more than a thousand requests.
    """

    title: str
    run: Callable[[ScratchModel], None]
    slow: bool = False

    @property
    def name(self) -> str:
        """The function's name, to select it by."""
        return self.run.__name__


def nothing_is_there(scratch: ScratchModel) -> None:
    """What was never written is absent in every way of asking."""
    store, key = scratch.store, scratch.key("nothing/at-all.json")
    equal(store.get(key), None, "get of a key that was never written")
    equal(store.exists(key), False, "exists of a key that was never written")
    equal(store.names(scratch.model), [], "names of an empty prefix")
    equal(list(store.objects(scratch.model)), [], "objects of an empty prefix")
    store.delete(key)
    try:
        store.download(key, scratch.folder / "nothing", lambda _: None)
    except NotFoundError:
        return
    raise NonconformantError("download of a key that was never written did not fail")


def create_only(scratch: ScratchModel) -> None:
    """An object is created once, and keeps its first bytes."""
    store, key = scratch.store, scratch.key("claim.json")
    store.create(key, b"first")
    expect_refusal(lambda: store.create(key, b"second"), "a second create")
    expect_refusal(lambda: store.create(key, b"first"), "a second create with the same bytes")
    equal(_present(scratch, key).data, b"first", "the object after the second create")
    equal(store.exists(key), True, "exists of what was created")


def odd_names(scratch: ScratchModel) -> None:
    """Every name that a file of a version may have is kept as it is, and apart from all others."""
    store = scratch.store
    for name in ODD_NAMES:
        store.create(scratch.key(f"odd/{name}"), name.encode())
    reader = scratch.open_reader()
    equal(store.names(scratch.key("odd")), sorted(ODD_NAMES), "names")
    wanted = sorted((scratch.key(f"odd/{name}") for name in ODD_NAMES), key=str.encode)
    equal([listed.key for listed in store.objects(scratch.model)], wanted, "objects")
    for name in ODD_NAMES:
        key = scratch.key(f"odd/{name}")
        equal(_present(scratch, key).data, name.encode(), f"get of {name!r}")
        equal(store.exists(key), True, f"exists of {name!r}")
        equal(reader.get(key, _LIMIT), name.encode(), f"{name!r}, read by the fetcher")
        store.delete(key)
        equal(store.exists(key), False, f"exists of {name!r} after its deletion")


def empty_objects(scratch: ScratchModel) -> None:
    """An object may have no bytes."""
    store, key = scratch.store, scratch.key("empty.txt")
    store.create(key, b"")
    equal(_present(scratch, key).data, b"", "an empty object")
    equal([(listed.key, listed.size) for listed in store.objects(scratch.model)], [(key, 0)], "its listing")
    equal(scratch.open_reader().get(key, _LIMIT), b"", "an empty object, read by the fetcher")
    uploaded = scratch.key("uploaded.txt")
    file = write_file(scratch.folder, "empty.txt", b"", MIN_PIECE_SIZE)
    store.upload(uploaded, scratch.folder / "empty.txt", file, MIN_PIECE_SIZE, lambda _: None)
    equal(_present(scratch, uploaded).data, b"", "an empty file, uploaded")


def swap(scratch: ScratchModel) -> None:
    """A compare-and-swap needs the tag of what is there now."""
    store, key = scratch.store, scratch.key("current")
    store.swap(key, b"one", None)
    expect_refusal(lambda: store.swap(key, b"again", None), "a swap from nothing of an object that is there")
    first = _present(scratch, key)
    equal(first.data, b"one", "what was swapped in from nothing")
    expect_refusal(lambda: store.swap(key, b"wrong", wrong_tag(store.url)), "a swap with a tag that no object has")
    store.swap(key, b"two", first.tag)
    second = _present(scratch, key)
    equal(second.data, b"two", "what was swapped in")
    expect(first.tag != second.tag, "the tag is the same before and after other bytes were swapped in")
    expect_refusal(lambda: store.swap(key, b"three", first.tag), "a swap with the tag of what was there before")
    equal(_present(scratch, key), second, "the object after refused swaps")
    store.swap(key, b"two", second.tag)
    equal(_present(scratch, key).data, b"two", "what was replaced by the same bytes")


def swap_created(scratch: ScratchModel) -> None:
    """What was created is swapped like what was swapped in before."""
    store, key = scratch.store, scratch.key("builds/0.json")
    store.create(key, b"one")
    expect_refusal(lambda: store.swap(key, b"two", None), "a swap from nothing of what was created")
    store.swap(key, b"two", _present(scratch, key).tag)
    equal(_present(scratch, key).data, b"two", "what was swapped in over what was created")
    expect_refusal(lambda: store.create(key, b"three"), "a create over what was swapped in")


def swap_missing(scratch: ScratchModel) -> None:
    """A compare-and-swap never brings back what was deleted."""
    store, key = scratch.store, scratch.key("current")
    expect_refusal(
        lambda: store.swap(key, b"new", wrong_tag(store.url)), "a swap with a tag, where there was never anything"
    )
    store.create(key, b"one")
    tag = _present(scratch, key).tag
    store.delete(key)
    expect_refusal(lambda: store.swap(key, b"two", tag), "a swap of what was deleted")
    equal(store.get(key), None, "the object after the refused swap")
    store.create(key, b"three")
    equal(_present(scratch, key).data, b"three", "what was created again after its deletion")


def race_to_create(scratch: ScratchModel) -> None:
    """Of 16 creators at once one wins, and its bytes stay."""
    store, key = scratch.store, scratch.key("claim.json")
    _race(scratch, key, lambda data: store.create(key, data))


def race_to_swap(scratch: ScratchModel) -> None:
    """Of 16 that swap from one tag one wins, and its bytes stay."""
    store, key = scratch.store, scratch.key("current")
    store.create(key, b"begin")
    tag = _present(scratch, key).tag
    _race(scratch, key, lambda data: store.swap(key, data, tag))


def race_to_swap_from_nothing(scratch: ScratchModel) -> None:
    """Of 16 that swap from nothing one wins, and its bytes stay."""
    store, key = scratch.store, scratch.key("current")
    _race(scratch, key, lambda data: store.swap(key, data, None))


def listing(scratch: ScratchModel) -> None:
    """A listing shows at once what was written and deleted, level by level and in order."""
    store, model = scratch.store, scratch.model
    sizes = {"a-b/x": 3, "a/x": 1, "a/y/deep/er": 4, "a/z": 2, "ab/x": 5, "current": 6}
    began = time.time()
    for name, size in sizes.items():
        store.create(scratch.key(name), b"x" * size)
    equal(store.names(model), ["a", "a-b", "ab", "current"], "names of the model")
    equal(store.names(scratch.key("a")), ["x", "y", "z"], "names of a deeper prefix")
    expect(model in store.names(""), "the registry's names lack the model")
    found = list(store.objects(model))
    wanted = sorted(sizes, key=str.encode)
    equal([listed.key for listed in found], [scratch.key(name) for name in wanted], "keys of the objects")
    equal([listed.size for listed in found], [sizes[name] for name in wanted], "sizes of the objects")
    equal(
        [listed.key for listed in store.objects(scratch.key("a"))],
        [scratch.key(name) for name in ("a/x", "a/y/deep/er", "a/z")],
        "objects of a deeper prefix",
    )
    for listed in found:
        expect(
            abs(listed.modified - began) < _CLOCK_SECONDS,
            f"an object written just now was modified {listed.modified - began:+.0f} s from now, says the listing",
        )
    store.delete(scratch.key("a/x"))
    equal(store.names(scratch.key("a")), ["y", "z"], "names after a deletion")


def long_listing(scratch: ScratchModel) -> None:
    """A listing has all entries, however many pages they take."""
    many = MANY if not scratch.store.url.startswith("az://") else MANY // 5
    names = [f"v{number}" for number in range(1, many + 1)]
    for error in together([lambda name=name: scratch.store.create(scratch.key(name), b"") for name in names]):  # type: ignore[misc]
        if error is not None:
            raise error
    equal(len(scratch.store.names(scratch.model)), many, "how many names there are")
    equal(scratch.store.names(scratch.model), sorted(names), "the names")
    equal(
        [listed.key for listed in scratch.store.objects(scratch.model)],
        [scratch.key(n) for n in sorted(names)],
        "objects",
    )


def deletion(scratch: ScratchModel) -> None:
    """What was created or swapped is deleted at once; deleting what is not there is fine."""
    store, key = scratch.store, scratch.key("current")
    store.create(key, b"one")
    store.swap(key, b"two", _present(scratch, key).tag)
    store.delete(key)
    equal(store.get(key), None, "the object after its deletion")
    equal(store.exists(key), False, "exists after the deletion")
    store.delete(key)


def upload_small(scratch: ScratchModel) -> None:
    """A small file arrives whole, is counted to its size, and comes back the same."""
    _upload_and_check(scratch, "model.onnx", noise("small", 3 * MIN_PIECE_SIZE + 77), MIN_PIECE_SIZE)


def upload_in_parts(scratch: ScratchModel) -> None:
    """A file of more than one part arrives whole, is counted to its size, and comes back the same."""
    _upload_and_check(scratch, "model.onnx", noise("parts", _MULTIPART_SIZE), PIECE_SIZE)


def upload_small_pieces(scratch: ScratchModel) -> None:
    """Pieces smaller than the parts that a service takes are no obstacle."""
    _upload_and_check(scratch, "model.onnx", noise("pieces", _SMALL_PIECES_SIZE), MIN_PIECE_SIZE)


def upload_refuses_other_bytes(scratch: ScratchModel) -> None:
    """A file that is not what the manifest says is not stored."""
    key = scratch.key("v1/onnx/model.onnx")
    for size, piece_size in ((MIN_PIECE_SIZE, MIN_PIECE_SIZE), (_MULTIPART_SIZE, PIECE_SIZE)):
        data = noise("meant", size)
        file = describe_file("model.onnx", data, piece_size)
        for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"x"):
            (scratch.folder / "model.onnx").write_bytes(wrong)
            try:
                _upload(scratch, key, "model.onnx", file, piece_size)
            except IntegrityError:
                pass
            else:
                raise NonconformantError(f"a file of {len(wrong)} wrong bytes was uploaded as one of {size} bytes")
    equal(scratch.store.exists(key), False, "exists after refused uploads")
    _nothing_unfinished(scratch)


def upload_over_another(scratch: ScratchModel) -> None:
    """An upload never replaces an object."""
    store, key = scratch.store, scratch.key("v1/onnx/model.onnx")
    for number, (size, piece_size) in enumerate(((100, MIN_PIECE_SIZE), (_MULTIPART_SIZE, PIECE_SIZE))):
        taken = f"{key}{number}"
        file = write_file(scratch.folder, "model.onnx", noise("ours", size), piece_size)
        other = noise("theirs", 100)
        store.create(taken, other)
        upload = functools.partial(_upload, scratch, taken, "model.onnx", file, piece_size)
        expect_refusal(upload, f"an upload of {size} bytes over others")
        equal(_present(scratch, taken).data, other, "the object after the refused upload")
        store.delete(taken)
        _upload(scratch, taken, "model.onnx", file, piece_size)
        with contextlib.suppress(ConflictError):  # it may look at the bytes, or only at who wrote them
            _upload(scratch, taken, "model.onnx", file, piece_size)
        store.download(taken, scratch.folder / f"back{number}", lambda _: None)
        same = (scratch.folder / f"back{number}").read_bytes() == noise("ours", size)
        expect(same, "a second upload of our own bytes changed them")
        _nothing_unfinished(scratch)


def headers(scratch: ScratchModel) -> None:
    """Readers may cache a version for ever, and ask for a channel every time; types are what they are."""
    if "://" not in scratch.store.url:
        raise NotApplicableError("a folder serves no headers")
    immutable, checked = "public, max-age=31536000, immutable", "no-cache"
    file = write_file(scratch.folder, "model.onnx", noise("headers", _MULTIPART_SIZE), PIECE_SIZE)
    _upload(scratch, scratch.key("v1/onnx/model.onnx"), "model.onnx", file, PIECE_SIZE)
    small = write_file(scratch.folder, "vocab.txt", b"a\nb\n", PIECE_SIZE)
    _upload(scratch, scratch.key("v1/vocab.txt"), "vocab.txt", small, PIECE_SIZE)
    scratch.store.create(scratch.key("v1/manifest.json"), b"{}")
    scratch.store.create(scratch.key("current"), b"{}")
    scratch.store.swap(scratch.key("current"), b'{"a":1}', _present(scratch, scratch.key("current")).tag)
    wanted = {
        "v1/onnx/model.onnx": ("application/octet-stream", immutable),
        "v1/vocab.txt": ("text/plain; charset=utf-8", immutable),
        "v1/manifest.json": ("application/json", checked),
        "current": ("application/json", checked),
    }
    for name, (content_type, cache_control) in wanted.items():
        found = scratch.headers(name)
        equal(found.get("Content-Type"), content_type, f"the content type of {name}")
        equal(found.get("Cache-Control"), cache_control, f"the cache control of {name}")


def crossed(scratch: ScratchModel) -> None:
    """What the publisher's SDK wrote, the fetcher's reader reads: whole, in ranges, and what is not there."""
    store = scratch.store
    data = noise("crossed", _SMALL_PIECES_SIZE)
    file = write_file(scratch.folder, "model.onnx", data, PIECE_SIZE)
    key, missing = scratch.key("v1/onnx/model.onnx"), scratch.key("v1/missing.json")
    _upload(scratch, key, "model.onnx", file, PIECE_SIZE)
    reader = scratch.open_reader()
    equal(reader.get(missing, _LIMIT), None, "what is not there, read by the fetcher")
    store.create(scratch.key("current"), b"one")
    equal(reader.get(scratch.key("current"), _LIMIT), b"one", "a small object, read by the fetcher")
    store.swap(scratch.key("current"), b"two", _present(scratch, scratch.key("current")).tag)
    equal(reader.get(scratch.key("current"), _LIMIT), b"two", "a replaced object, read by the fetcher")
    size = len(data)
    for start, length in ((0, size), (0, 1), (1, 4096), (size - 7, 7), (size - 7, 100), (size, 10), (size + 5, 10)):
        found = reader.read(key, start, length)
        expect(
            found == data[start : start + length],
            f"{length} bytes from {start} of {size}: the fetcher read {len(found)} bytes, or other ones",
        )
    try:
        reader.get(key, size - 1)
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


CHECKS = (
    Check("what is not there is absent", nothing_is_there),
    Check("create-only is honoured", create_only),
    Check("odd names are kept", odd_names),
    Check("empty objects are kept", empty_objects),
    Check("compare-and-swap is honoured", swap),
    Check("compare-and-swap of what was created", swap_created),
    Check("compare-and-swap brings nothing back", swap_missing),
    Check("one of 16 creators wins", race_to_create),
    Check("one of 16 swappers wins", race_to_swap),
    Check("one of 16 swappers from nothing wins", race_to_swap_from_nothing),
    Check("listings are consistent and in order", listing),
    Check("listings of several pages are complete", long_listing, slow=True),
    Check("deletion is idempotent", deletion),
    Check("a small file is uploaded", upload_small),
    Check("a file in parts is uploaded", upload_in_parts),
    Check("a file of small pieces is uploaded", upload_small_pieces),
    Check("wrong bytes are not uploaded", upload_refuses_other_bytes),
    Check("an upload replaces nothing", upload_over_another),
    Check("types and cache headers are served", headers),
    Check("the fetcher reads what was written", crossed),
    Check("a build is published and fetched", publish_and_fetch),
)


def _present(scratch: ScratchModel, key: str) -> StoredObject:
    stored = scratch.store.get(key)
    if stored is None:
        raise NonconformantError(f"{key} is not there right after it was written")
    return stored


def _upload(scratch: ScratchModel, key: str, path: str, file: File, piece_size: int) -> None:
    scratch.store.upload(key, scratch.folder / path, file, piece_size, lambda _: None)


def _upload_and_check(scratch: ScratchModel, name: str, data: bytes, piece_size: int) -> None:
    store, key = scratch.store, scratch.key(f"v1/{name}")
    file = write_file(scratch.folder, name, data, piece_size)
    counted: list[int] = []
    store.upload(key, scratch.folder / name, file, piece_size, counted.append)
    equal(sum(counted), len(data), "the sum of the upload's progress")
    equal([(listed.key, listed.size) for listed in store.objects(scratch.model)], [(key, len(data))], "the listing")
    counted.clear()
    store.download(key, scratch.folder / "back", counted.append)
    equal(sum(counted), len(data), "the sum of the download's progress")
    expect((scratch.folder / "back").read_bytes() == data, "what was downloaded differs from what was uploaded")


def _nothing_unfinished(scratch: ScratchModel) -> None:
    equal(scratch.store.unfinished(scratch.model), [], "uploads in parts that were begun and left")


def _race(scratch: ScratchModel, key: str, write: Callable[[bytes], None]) -> None:
    """``write`` by 16 threads at once, each with other bytes: one succeeds, the others meet a conflict."""
    gate = threading.Barrier(RIVALS)
    entries = [f"rival {number} ".encode() * 2000 for number in range(RIVALS)]

    def rival(data: bytes) -> None:
        gate.wait()
        write(data)

    results = together([lambda data=data: rival(data) for data in entries])  # type: ignore[misc]
    for error in results:
        if error is not None and not isinstance(error, ConflictError):
            raise error
    winners = list(itertools.compress(entries, [error is None for error in results]))
    equal(len(winners), 1, f"winners of {RIVALS}")
    equal(_present(scratch, key).data, winners[0], "the bytes that stayed")
