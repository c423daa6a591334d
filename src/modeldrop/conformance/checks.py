"""The conformance checks: what every store promises to a registry. ``CHECKS`` holds all of them.

Each is a plain function of a ``Place``; it fails with a sentence that says what the store did. None needs
pytest. They write a few dozen megabytes in all, below a scratch model of their own.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.conformance.place import NonconformantError, NotApplicableError, Place, equal, expect, refused, together
from modeldrop.conformance.sample import describe, noise, write_build, write_file
from modeldrop.errors import ConflictError, IntegrityError, NotFoundError, RegistryError
from modeldrop.format.manifest import MIN_PIECE_SIZE, PIECE_SIZE
from modeldrop.registry.channels import move_forward
from modeldrop.registry.publish import read_build
from modeldrop.registry.replicate import commit_all, stage_all
from modeldrop.storage.write.conditional import wrong_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.format.manifest import File
    from modeldrop.storage.write.store import Stored

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
    run: Callable[[Place], None]
    slow: bool = False

    @property
    def name(self) -> str:
        """The function's name, to select it by."""
        return self.run.__name__


def nothing_is_there(place: Place) -> None:
    """What was never written is absent in every way of asking."""
    store, key = place.store, place.key("nothing/at-all.json")
    equal(store.get(key), None, "get of a key that was never written")
    equal(store.exists(key), False, "exists of a key that was never written")
    equal(store.names(place.model), [], "names of an empty prefix")
    equal(list(store.objects(place.model)), [], "objects of an empty prefix")
    store.delete(key)
    try:
        store.download(key, place.folder / "nothing", lambda _: None)
    except NotFoundError:
        return
    raise NonconformantError("download of a key that was never written did not fail")


def create_only(place: Place) -> None:
    """An object is created once, and keeps its first bytes."""
    store, key = place.store, place.key("claim.json")
    store.create(key, b"first")
    refused(lambda: store.create(key, b"second"), "a second create")
    refused(lambda: store.create(key, b"first"), "a second create with the same bytes")
    equal(_present(place, key).data, b"first", "the object after the second create")
    equal(store.exists(key), True, "exists of what was created")


def odd_names(place: Place) -> None:
    """Every name that a file of a version may have is kept as it is, and apart from all others."""
    store = place.store
    for name in ODD_NAMES:
        store.create(place.key(f"odd/{name}"), name.encode())
    reader = place.open_reader()
    equal(store.names(place.key("odd")), sorted(ODD_NAMES), "names")
    wanted = sorted((place.key(f"odd/{name}") for name in ODD_NAMES), key=str.encode)
    equal([listed.key for listed in store.objects(place.model)], wanted, "objects")
    for name in ODD_NAMES:
        key = place.key(f"odd/{name}")
        equal(_present(place, key).data, name.encode(), f"get of {name!r}")
        equal(store.exists(key), True, f"exists of {name!r}")
        equal(reader.get(key, _LIMIT), name.encode(), f"{name!r}, read by the fetcher")
        store.delete(key)
        equal(store.exists(key), False, f"exists of {name!r} after its deletion")


def empty_objects(place: Place) -> None:
    """An object may have no bytes."""
    store, key = place.store, place.key("empty.txt")
    store.create(key, b"")
    equal(_present(place, key).data, b"", "an empty object")
    equal([(listed.key, listed.size) for listed in store.objects(place.model)], [(key, 0)], "its listing")
    equal(place.open_reader().get(key, _LIMIT), b"", "an empty object, read by the fetcher")
    uploaded = place.key("uploaded.txt")
    file = write_file(place.folder, "empty.txt", b"", MIN_PIECE_SIZE)
    store.upload(uploaded, place.folder / "empty.txt", file, MIN_PIECE_SIZE, lambda _: None)
    equal(_present(place, uploaded).data, b"", "an empty file, uploaded")


def swap(place: Place) -> None:
    """A compare-and-swap needs the tag of what is there now."""
    store, key = place.store, place.key("current")
    store.swap(key, b"one", None)
    refused(lambda: store.swap(key, b"again", None), "a swap from nothing of an object that is there")
    first = _present(place, key)
    equal(first.data, b"one", "what was swapped in from nothing")
    refused(lambda: store.swap(key, b"wrong", wrong_tag(store.url)), "a swap with a tag that no object has")
    store.swap(key, b"two", first.tag)
    second = _present(place, key)
    equal(second.data, b"two", "what was swapped in")
    expect(first.tag != second.tag, "the tag is the same before and after other bytes were swapped in")
    refused(lambda: store.swap(key, b"three", first.tag), "a swap with the tag of what was there before")
    equal(_present(place, key), second, "the object after refused swaps")
    store.swap(key, b"two", second.tag)
    equal(_present(place, key).data, b"two", "what was replaced by the same bytes")


def swap_created(place: Place) -> None:
    """What was created is swapped like what was swapped in before."""
    store, key = place.store, place.key("builds/0.json")
    store.create(key, b"one")
    refused(lambda: store.swap(key, b"two", None), "a swap from nothing of what was created")
    store.swap(key, b"two", _present(place, key).tag)
    equal(_present(place, key).data, b"two", "what was swapped in over what was created")
    refused(lambda: store.create(key, b"three"), "a create over what was swapped in")


def swap_missing(place: Place) -> None:
    """A compare-and-swap never brings back what was deleted."""
    store, key = place.store, place.key("current")
    refused(lambda: store.swap(key, b"new", wrong_tag(store.url)), "a swap with a tag, where there was never anything")
    store.create(key, b"one")
    tag = _present(place, key).tag
    store.delete(key)
    refused(lambda: store.swap(key, b"two", tag), "a swap of what was deleted")
    equal(store.get(key), None, "the object after the refused swap")
    store.create(key, b"three")
    equal(_present(place, key).data, b"three", "what was created again after its deletion")


def race_to_create(place: Place) -> None:
    """Of 16 creators at once one wins, and its bytes stay."""
    store, key = place.store, place.key("claim.json")
    _race(place, key, lambda data: store.create(key, data))


def race_to_swap(place: Place) -> None:
    """Of 16 that swap from one tag one wins, and its bytes stay."""
    store, key = place.store, place.key("current")
    store.create(key, b"begin")
    tag = _present(place, key).tag
    _race(place, key, lambda data: store.swap(key, data, tag))


def race_to_swap_from_nothing(place: Place) -> None:
    """Of 16 that swap from nothing one wins, and its bytes stay."""
    store, key = place.store, place.key("current")
    _race(place, key, lambda data: store.swap(key, data, None))


def listing(place: Place) -> None:
    """A listing shows at once what was written and deleted, level by level and in order."""
    store, model = place.store, place.model
    sizes = {"a-b/x": 3, "a/x": 1, "a/y/deep/er": 4, "a/z": 2, "ab/x": 5, "current": 6}
    began = time.time()
    for name, size in sizes.items():
        store.create(place.key(name), b"x" * size)
    equal(store.names(model), ["a", "a-b", "ab", "current"], "names of the model")
    equal(store.names(place.key("a")), ["x", "y", "z"], "names of a deeper prefix")
    expect(model in store.names(""), "the registry's names lack the model")
    found = list(store.objects(model))
    wanted = sorted(sizes, key=str.encode)
    equal([listed.key for listed in found], [place.key(name) for name in wanted], "keys of the objects")
    equal([listed.size for listed in found], [sizes[name] for name in wanted], "sizes of the objects")
    equal(
        [listed.key for listed in store.objects(place.key("a"))],
        [place.key(name) for name in ("a/x", "a/y/deep/er", "a/z")],
        "objects of a deeper prefix",
    )
    for listed in found:
        expect(
            abs(listed.modified - began) < _CLOCK_SECONDS,
            f"an object written just now was modified {listed.modified - began:+.0f} s from now, says the listing",
        )
    store.delete(place.key("a/x"))
    equal(store.names(place.key("a")), ["y", "z"], "names after a deletion")


def long_listing(place: Place) -> None:
    """A listing has all entries, however many pages they take."""
    many = MANY if not place.store.url.startswith("az://") else MANY // 5
    names = [f"v{number}" for number in range(1, many + 1)]
    for error in together([lambda name=name: place.store.create(place.key(name), b"") for name in names]):  # type: ignore[misc]
        if error is not None:
            raise error
    equal(len(place.store.names(place.model)), many, "how many names there are")
    equal(place.store.names(place.model), sorted(names), "the names")
    equal([listed.key for listed in place.store.objects(place.model)], [place.key(n) for n in sorted(names)], "objects")


def deletion(place: Place) -> None:
    """Deleting is idempotent; with a tag it spares what was written since, where the service can promise that."""
    store, key = place.store, place.key("current")
    store.create(key, b"one")
    old = _present(place, key).tag
    store.swap(key, b"two", old)
    try:
        store.delete(key, old)
    except ConflictError:
        equal(_present(place, key).data, b"two", "the object after a refused deletion")
    else:
        expect(store.url.startswith("s3://"), "a deletion with the tag of what was there before was accepted")
        equal(store.get(key), None, "the object after a deletion")
        store.create(key, b"three")
    store.delete(key, _present(place, key).tag)
    equal(store.exists(key), False, "exists after the deletion")
    store.delete(key)


def upload_small(place: Place) -> None:
    """A small file arrives whole, is counted to its size, and comes back the same."""
    _upload_and_check(place, "model.onnx", noise("small", 3 * MIN_PIECE_SIZE + 77), MIN_PIECE_SIZE)


def upload_in_parts(place: Place) -> None:
    """A file of more than one part arrives whole, is counted to its size, and comes back the same."""
    _upload_and_check(place, "model.onnx", noise("parts", _MULTIPART_SIZE), PIECE_SIZE)


def upload_small_pieces(place: Place) -> None:
    """Pieces smaller than the parts that a service takes are no obstacle."""
    _upload_and_check(place, "model.onnx", noise("pieces", _SMALL_PIECES_SIZE), MIN_PIECE_SIZE)


def upload_refuses_other_bytes(place: Place) -> None:
    """A file that is not what the manifest says is not stored."""
    key = place.key("v1/onnx/model.onnx")
    for size, piece_size in ((MIN_PIECE_SIZE, MIN_PIECE_SIZE), (_MULTIPART_SIZE, PIECE_SIZE)):
        data = noise("meant", size)
        file = describe("model.onnx", data, piece_size)
        for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"x"):
            (place.folder / "model.onnx").write_bytes(wrong)
            try:
                _upload(place, key, "model.onnx", file, piece_size)
            except IntegrityError:
                pass
            else:
                raise NonconformantError(f"a file of {len(wrong)} wrong bytes was uploaded as one of {size} bytes")
    equal(place.store.exists(key), False, "exists after refused uploads")
    _nothing_unfinished(place)


def upload_over_another(place: Place) -> None:
    """An upload never replaces an object."""
    store, key = place.store, place.key("v1/onnx/model.onnx")
    for number, (size, piece_size) in enumerate(((100, MIN_PIECE_SIZE), (_MULTIPART_SIZE, PIECE_SIZE))):
        taken = f"{key}{number}"
        file = write_file(place.folder, "model.onnx", noise("ours", size), piece_size)
        other = noise("theirs", 100)
        store.create(taken, other)
        refused(lambda: _upload(place, taken, "model.onnx", file, piece_size), f"an upload of {size} bytes over others")  # noqa: B023
        equal(_present(place, taken).data, other, "the object after the refused upload")
        store.delete(taken)
        _upload(place, taken, "model.onnx", file, piece_size)
        with contextlib.suppress(ConflictError):  # it may look at the bytes, or only at who wrote them
            _upload(place, taken, "model.onnx", file, piece_size)
        store.download(taken, place.folder / f"back{number}", lambda _: None)
        same = (place.folder / f"back{number}").read_bytes() == noise("ours", size)
        expect(same, "a second upload of our own bytes changed them")
        _nothing_unfinished(place)


def headers(place: Place) -> None:
    """Readers may cache a version for ever, and ask for a channel every time; types are what they are."""
    if "://" not in place.store.url:
        raise NotApplicableError("a folder serves no headers")
    immutable, checked = "public, max-age=31536000, immutable", "no-cache"
    file = write_file(place.folder, "model.onnx", noise("headers", _MULTIPART_SIZE), PIECE_SIZE)
    _upload(place, place.key("v1/onnx/model.onnx"), "model.onnx", file, PIECE_SIZE)
    small = write_file(place.folder, "vocab.txt", b"a\nb\n", PIECE_SIZE)
    _upload(place, place.key("v1/vocab.txt"), "vocab.txt", small, PIECE_SIZE)
    place.store.create(place.key("v1/manifest.json"), b"{}")
    place.store.create(place.key("current"), b"{}")
    place.store.swap(place.key("current"), b'{"a":1}', _present(place, place.key("current")).tag)
    wanted = {
        "v1/onnx/model.onnx": ("application/octet-stream", immutable),
        "v1/vocab.txt": ("text/plain; charset=utf-8", immutable),
        "v1/manifest.json": ("application/json", checked),
        "current": ("application/json", checked),
    }
    for name, (content_type, cache_control) in wanted.items():
        found = place.headers(place.key(name))
        equal(found.get("Content-Type"), content_type, f"the content type of {name}")
        equal(found.get("Cache-Control"), cache_control, f"the cache control of {name}")


def crossed(place: Place) -> None:
    """What the publisher's SDK wrote, the fetcher's reader reads: whole, in ranges, and what is not there."""
    store = place.store
    data = noise("crossed", _SMALL_PIECES_SIZE)
    file = write_file(place.folder, "model.onnx", data, PIECE_SIZE)
    key, missing = place.key("v1/onnx/model.onnx"), place.key("v1/missing.json")
    _upload(place, key, "model.onnx", file, PIECE_SIZE)
    reader = place.open_reader()
    equal(reader.get(missing, _LIMIT), None, "what is not there, read by the fetcher")
    store.create(place.key("current"), b"one")
    equal(reader.get(place.key("current"), _LIMIT), b"one", "a small object, read by the fetcher")
    store.swap(place.key("current"), b"two", _present(place, place.key("current")).tag)
    equal(reader.get(place.key("current"), _LIMIT), b"two", "a replaced object, read by the fetcher")
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


def publish_and_fetch(place: Place) -> None:
    """A build is published, and fetched back byte for byte."""
    from modeldrop.fetcher.api import fetch

    contents = write_build(place.folder / "build")
    staged = stage_all([place.store], place.model, read_build(place.folder / "build"))
    version = commit_all(staged, place.folder / "copy")[0].version
    moved = move_forward(place.store, place.model, version, "current", by="conformance")
    equal((version.number, moved.moved, moved.generation), (1, True, 1), "version, whether moved, generation")
    snapshot = fetch(f"{place.store.url}/{place.model}", place.folder / "home")
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


def _present(place: Place, key: str) -> Stored:
    stored = place.store.get(key)
    if stored is None:
        raise NonconformantError(f"{key} is not there right after it was written")
    return stored


def _upload(place: Place, key: str, path: str, file: File, piece_size: int) -> None:
    place.store.upload(key, place.folder / path, file, piece_size, lambda _: None)


def _upload_and_check(place: Place, name: str, data: bytes, piece_size: int) -> None:
    store, key = place.store, place.key(f"v1/{name}")
    file = write_file(place.folder, name, data, piece_size)
    counted: list[int] = []
    store.upload(key, place.folder / name, file, piece_size, counted.append)
    equal(sum(counted), len(data), "the sum of the upload's progress")
    equal([(listed.key, listed.size) for listed in store.objects(place.model)], [(key, len(data))], "the listing")
    counted.clear()
    store.download(key, place.folder / "back", counted.append)
    equal(sum(counted), len(data), "the sum of the download's progress")
    expect((place.folder / "back").read_bytes() == data, "what was downloaded differs from what was uploaded")


def _nothing_unfinished(place: Place) -> None:
    equal(place.store.unfinished(place.model), [], "uploads in parts that were begun and left")


def _race(place: Place, key: str, write: Callable[[bytes], None]) -> None:
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
    equal(_present(place, key).data, winners[0], "the bytes that stayed")
