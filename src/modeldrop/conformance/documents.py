"""The conformance checks of small objects: claims, manifests, channels, and how they are listed and deleted."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

from modeldrop.conformance.sample import write_file
from modeldrop.conformance.scratch import (
    NonconformantError,
    ScratchModel,
    equal,
    expect,
    expect_refusal,
    together,
)
from modeldrop.errors import ConflictError, NotFoundError
from modeldrop.format.manifest import MIN_PIECE_SIZE
from modeldrop.storage.write.conditional import wrong_tag

if TYPE_CHECKING:
    from collections.abc import Callable

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
LIMIT = 1 << 20
"""Bytes at most that a reader takes of a small object here."""

_CLOCK_SECONDS = 15 * 60


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
    equal(scratch.present(key).data, b"first", "the object after the second create")
    equal(store.exists(key), True, "exists of what was created")


def odd_names(scratch: ScratchModel) -> None:
    """Every name that a file of a version may have is kept as it is, and apart from all others."""
    store = scratch.store
    for name in ODD_NAMES:
        store.create(scratch.key(f"odd/{name}"), name.encode())
    reader = scratch.open_reader()
    equal(store.names(scratch.key("odd")), sorted(ODD_NAMES), "names")
    wanted = {scratch.key(f"odd/{name}") for name in ODD_NAMES}
    equal({listed.key for listed in store.objects(scratch.model)}, wanted, "objects")
    for name in ODD_NAMES:
        key = scratch.key(f"odd/{name}")
        equal(scratch.present(key).data, name.encode(), f"get of {name!r}")
        equal(store.exists(key), True, f"exists of {name!r}")
        equal(reader.get(key, LIMIT), name.encode(), f"{name!r}, read by the fetcher")
        store.delete(key)
        equal(store.exists(key), False, f"exists of {name!r} after its deletion")


def empty_objects(scratch: ScratchModel) -> None:
    """An object may have no bytes."""
    store, key = scratch.store, scratch.key("empty.txt")
    store.create(key, b"")
    equal(scratch.present(key).data, b"", "an empty object")
    equal([(listed.key, listed.size) for listed in store.objects(scratch.model)], [(key, 0)], "its listing")
    equal(scratch.open_reader().get(key, LIMIT), b"", "an empty object, read by the fetcher")
    uploaded = scratch.key("uploaded.txt")
    file = write_file(scratch.folder, "empty.txt", b"", MIN_PIECE_SIZE)
    store.upload(uploaded, scratch.folder / "empty.txt", file, MIN_PIECE_SIZE, lambda _: None)
    equal(scratch.present(uploaded).data, b"", "an empty file, uploaded")


def swap(scratch: ScratchModel) -> None:
    """A compare-and-swap needs the tag of what is there now."""
    store, key = scratch.store, scratch.key("current")
    store.swap(key, b"one", None)
    expect_refusal(lambda: store.swap(key, b"again", None), "a swap from nothing of an object that is there")
    first = scratch.present(key)
    equal(first.data, b"one", "what was swapped in from nothing")
    expect_refusal(lambda: store.swap(key, b"wrong", wrong_tag(store.url)), "a swap with a tag that no object has")
    store.swap(key, b"two", first.tag)
    second = scratch.present(key)
    equal(second.data, b"two", "what was swapped in")
    expect(first.tag != second.tag, "the tag is the same before and after other bytes were swapped in")
    expect_refusal(lambda: store.swap(key, b"three", first.tag), "a swap with the tag of what was there before")
    equal(scratch.present(key), second, "the object after refused swaps")
    store.swap(key, b"two", second.tag)
    equal(scratch.present(key).data, b"two", "what was replaced by the same bytes")


def swap_created(scratch: ScratchModel) -> None:
    """What was created is swapped like what was swapped in before."""
    store, key = scratch.store, scratch.key("builds/0.json")
    store.create(key, b"one")
    expect_refusal(lambda: store.swap(key, b"two", None), "a swap from nothing of what was created")
    store.swap(key, b"two", scratch.present(key).tag)
    equal(scratch.present(key).data, b"two", "what was swapped in over what was created")
    expect_refusal(lambda: store.create(key, b"three"), "a create over what was swapped in")


def swap_missing(scratch: ScratchModel) -> None:
    """A compare-and-swap never brings back what was deleted."""
    store, key = scratch.store, scratch.key("current")
    expect_refusal(
        lambda: store.swap(key, b"new", wrong_tag(store.url)), "a swap with a tag, where there was never anything"
    )
    store.create(key, b"one")
    tag = scratch.present(key).tag
    store.delete(key)
    expect_refusal(lambda: store.swap(key, b"two", tag), "a swap of what was deleted")
    equal(store.get(key), None, "the object after the refused swap")
    store.create(key, b"three")
    equal(scratch.present(key).data, b"three", "what was created again after its deletion")


def race_to_create(scratch: ScratchModel) -> None:
    """Of 16 creators at once one wins, and its bytes stay."""
    store, key = scratch.store, scratch.key("claim.json")
    _race(scratch, key, lambda data: store.create(key, data))


def race_to_swap(scratch: ScratchModel) -> None:
    """Of 16 that swap from one tag one wins, and its bytes stay."""
    store, key = scratch.store, scratch.key("current")
    store.create(key, b"begin")
    tag = scratch.present(key).tag
    _race(scratch, key, lambda data: store.swap(key, data, tag))


def race_to_swap_from_nothing(scratch: ScratchModel) -> None:
    """Of 16 that swap from nothing one wins, and its bytes stay."""
    store, key = scratch.store, scratch.key("current")
    _race(scratch, key, lambda data: store.swap(key, data, None))


def listing(scratch: ScratchModel) -> None:
    """A listing shows at once what was written and deleted, level by level, in whatever order."""
    store, model = scratch.store, scratch.model
    sizes = {"a-b/x": 3, "a/x": 1, "a/y/deep/er": 4, "a/z": 2, "ab/x": 5, "current": 6}
    began = time.time()
    for name, size in sizes.items():
        store.create(scratch.key(name), b"x" * size)
    equal(store.names(model), ["a", "a-b", "ab", "current"], "names of the model")
    equal(store.names(scratch.key("a")), ["x", "y", "z"], "names of a deeper prefix")
    expect(model in store.names(""), "the registry's names lack the model")
    found = list(store.objects(model))
    equal(
        sorted((listed.key, listed.size) for listed in found),
        sorted((scratch.key(name), size) for name, size in sizes.items()),
        "keys and sizes of the objects",
    )
    equal(
        sorted(listed.key for listed in store.objects(scratch.key("a"))),
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
        sorted(listed.key for listed in scratch.store.objects(scratch.model)),
        [scratch.key(n) for n in sorted(names)],
        "objects",
    )


def overwritten(scratch: ScratchModel) -> None:
    """What replaced an object is read at once, by publishers and fetchers, and listed with its own size and tag."""
    store, key = scratch.store, scratch.key("current")
    store.create(key, b"")
    reader = scratch.open_reader()
    for number in range(5):
        before = next(iter(store.objects(scratch.model)))
        data = b"%d" % number * (1000 - number)
        store.swap(key, data, scratch.present(key).tag)
        equal(scratch.present(key).data, data, "what replaced an object")
        equal(reader.get(key, LIMIT), data, "what replaced an object, read by the fetcher")
        (after,) = store.objects(scratch.model)
        equal((after.key, after.size), (key, len(data)), "the listing of what replaced an object")
        expect(before.tag != after.tag, "the listing shows the same tag before and after an object was replaced")


def deletion(scratch: ScratchModel) -> None:
    """What was created or swapped is deleted at once; deleting what is not there is fine."""
    store, key = scratch.store, scratch.key("current")
    store.create(key, b"one")
    store.swap(key, b"two", scratch.present(key).tag)
    store.delete(key)
    equal(store.get(key), None, "the object after its deletion")
    equal(store.exists(key), False, "exists after the deletion")
    equal(scratch.open_reader().get(key, LIMIT), None, "what was deleted, read by the fetcher")
    store.delete(key)


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
    equal(scratch.present(key).data, winners[0], "the bytes that stayed")
