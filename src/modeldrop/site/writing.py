"""Write a registry's pages: all of them, or those that a change of one model concerns.

An update reads what the pages remember (``document.py``), of the registry the model's names, its channels and the
versions that have changed, and writes the pages that differ by that. Several may run at the same time: each page is
replaced only if it is what was read before the registry was, else the update begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modeldrop.config import trusted_keys
from modeldrop.errors import ConflictError, FormatError
from modeldrop.format import keys
from modeldrop.registry.versions import list_folder, list_folders, list_models
from modeldrop.site.document import (
    ChunkTotals,
    ModelRow,
    VersionEntry,
    chunk_of,
    read_chunk,
    read_model_rows,
    totals_of,
    write_chunk,
)
from modeldrop.site.pages import (
    REGISTRY_PAGE,
    Pages,
    data_file,
    model_page,
    newest_chunks,
    older_page,
    version_page,
)
from modeldrop.site.places import Place, RegistryPlace
from modeldrop.site.reading import (
    KnownChannel,
    KnownVersion,
    faults_of_channels,
    read_known_channels,
    read_known_version,
)
from modeldrop.storage.write.store import Store
from modeldrop.trust.rules import Trust

_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: models and versions that have pages, pages that were written, and what is wrong, by model."""

    models: int
    versions: int
    pages: int
    problems: Mapping[str, Sequence[str]] = field(default_factory=dict)


def write_site(store: Store, place: Place, progress: Callable[[str], None] = lambda _model: None) -> Written:
    """Write all pages of a registry. Each manifest is read once, and no more than one version is kept at a time.

    Args:
        store: the registry.
        place: where to.
        progress: told every model.

    Raises:
        MissingExtraError: Jinja2 is not installed.
        RegistryError, DiskError: the registry cannot be read, or the place not be written.
    """
    pages, trust = Pages(store.url, place.beside), trusted_keys()
    for path, data in pages.assets().items():
        place.write(path, data)
    place.read(REGISTRY_PAGE)  # before the registry is read: what is published meanwhile must not be lost
    rows, versions = {}, 0
    for model in list_models(store):
        progress(model)
        row, count = _write_model(store, place, pages, model, trust)
        if row is not None:
            rows[model] = row
            versions += count
    try:
        place.write(REGISTRY_PAGE, pages.registry(rows.values()))
    except ConflictError:  # a publish has updated its own model's row meanwhile
        known = read_model_rows(place.read(REGISTRY_PAGE) or b"", REGISTRY_PAGE)
        place.write(REGISTRY_PAGE, pages.registry({**rows, **known}.values()))
    problems = {row.name: row.problems for row in rows.values() if row.problems}
    return Written(len(rows), versions, place.written, problems)


def _write_model(
    store: Store, place: Place, pages: Pages, model: str, trust: Trust | None
) -> tuple[ModelRow | None, int]:
    channels, problems = read_known_channels(store, model, store.names(model), trust)
    folders = list_folders(store, model)
    if not folders and not channels and not problems:
        return None, 0  # a folder with something else in it
    names = {known.name: known.channel.version for known in channels}
    entries: dict[int, VersionEntry] = {}
    previous: VersionEntry | None = None
    for folder in folders:
        known = read_known_version(store, model, folder, trust)
        entries[folder.number] = known.entry
        place.write(version_page(model, folder.number), _version(pages, model, known, names, previous))
        previous = known.entry if known.entry.live else previous
    chunks: dict[int, list[VersionEntry]] = {}
    for entry in entries.values():
        chunks.setdefault(chunk_of(entry.number), []).append(entry)
    count = max(chunks, default=0)
    totals = [totals_of(chunks.get(chunk, ())) for chunk in range(1, count + 1)]
    row = _row(model, channels, problems, entries, totals)
    for chunk in range(1, count + 1):
        place.write(data_file(model, chunk), write_chunk(chunks.get(chunk, [])))
        if chunk not in newest_chunks(count):
            place.write(older_page(model, chunk), pages.older(model, chunk, channels, chunks.get(chunk, [])))
    newest = [entry for chunk in newest_chunks(count) for entry in chunks.get(chunk, ())]
    place.write(model_page(model), pages.model(row, channels, newest))
    return row, len(entries)


def update_site(store: Store, model: str, changed: Iterable[int]) -> Written:
    """Bring the pages in a registry up to date after a model has changed; all of them where there are none yet.

    Args:
        store: the registry.
        model: the model.
        changed: versions that were published, marked or sealed; moves of channels are found here.

    Raises:
        MissingExtraError: Jinja2 is not installed.
        ConflictError: others have written these pages every time.
        RegistryError, DiskError: the registry cannot be read or written.
    """
    changed = set(changed)
    for attempt in range(1, _ATTEMPTS + 1):
        place = RegistryPlace(store)
        pages = Pages(store.url, place.beside)
        front = place.read(REGISTRY_PAGE)
        try:
            rows = read_model_rows(front or b"", REGISTRY_PAGE)
        except FormatError:
            return write_site(store, place)
        try:
            written = _Update(store, place, pages, model=model, rows=rows).run(changed)
            for path, data in pages.assets(unless_in=front or b"").items():  # after an upgrade there are others
                place.write(path, data)
            return written
        except FormatError:
            return write_site(store, place)  # what the pages remember is damaged, or of a later release
        except ConflictError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


class _Update:
    """One attempt at an update. What it will replace is read before the registry is."""

    def __init__(self, store: Store, place: Place, pages: Pages, *, model: str, rows: dict[str, ModelRow]) -> None:
        self._store = store
        self._place = place
        self._pages = pages
        self._model = model
        self._rows = rows
        self._before = rows.get(model, ModelRow(model))
        self._chunks: dict[int, list[VersionEntry]] = {}
        self._followers: set[int] = set()
        self._trust = trusted_keys()

    def run(self, changed: set[int]) -> Written:
        """Do it."""
        store, place, pages, model, before = self._store, self._place, self._pages, self._model, self._before
        place.read(model_page(model))
        for chunk in newest_chunks(len(before.chunks)):
            self._chunk(chunk)
        listed = store.names(model)
        channels, problems = read_known_channels(store, model, listed, self._trust)
        names = {known.name: known.channel.version for known in channels}
        numbers = sorted(number for number in map(keys.version_number, listed) if number is not None)
        newest_known = max((entry.number for entries in self._chunks.values() for entry in entries), default=0)
        concerned = changed | {number for number in numbers if number > newest_known}
        concerned |= {number for _, number in set(names.items()) ^ set(before.channels.items())}
        known = self._read(sorted(concerned & set(numbers)))
        # What follows a version that is there no more, or again, is compared with another one.
        known |= self._read(sorted(self._followers - known.keys()))
        count = max([len(before.chunks), *(chunk_of(number) for number in known)], default=0)
        older = {chunk for chunk in range(1, count + 1) if chunk not in newest_chunks(count)}
        was_newest = set(newest_chunks(len(before.chunks)))
        touched = {chunk_of(number) for number in known}
        for number, version in known.items():
            previous = self._previous(number)
            place.write(version_page(model, number), _version(pages, model, version, names, previous))
        for chunk in sorted(touched):
            place.write(data_file(model, chunk), write_chunk(self._chunk(chunk)))
        for chunk in sorted(older & (touched | was_newest)):
            place.write(older_page(model, chunk), pages.older(model, chunk, channels, self._chunk(chunk)))
        totals = [*before.chunks, *[ChunkTotals()] * (count - len(before.chunks))]
        for chunk in touched:
            totals[chunk - 1] = totals_of(self._chunk(chunk))
        newest = [entry for chunk in newest_chunks(count) for entry in self._chunk(chunk)]
        for named in names.values():
            self._chunk(chunk_of(named))
        entries = {entry.number: entry for chunk in self._chunks.values() for entry in chunk}
        row = _row(model, channels, problems, entries, totals)
        place.write(model_page(model), pages.model(row, channels, newest))
        place.write(REGISTRY_PAGE, pages.registry({**self._rows, model: row}.values()))
        return Written(1, len(known), place.written, {model: row.problems} if row.problems else {})

    def _read(self, numbers: Iterable[int]) -> dict[int, KnownVersion]:
        """Versions as they are now; what the chunks say of them follows."""
        known = {}
        for number in numbers:
            folder = list_folder(self._store, self._model, number)
            known[number] = read_known_version(self._store, self._model, folder, self._trust)
            chunk, entry = self._chunk(chunk_of(number)), known[number].entry
            others = [other for other in chunk if other.number != number]
            if any(other.number == number and other.live != entry.live for other in chunk):
                self._followers |= self._follower(number)
            chunk[:] = sorted([*others, entry], key=lambda one: one.number)
        return known

    def _follower(self, number: int) -> set[int]:
        """The next version that can be fetched, as far as the chunk after knows it."""
        chunk = chunk_of(number)
        near = [entry for one in (chunk, chunk + 1) for entry in self._chunk(one)]
        return {next((entry.number for entry in near if entry.number > number and entry.live), number)}

    def _previous(self, number: int) -> VersionEntry | None:
        """The version before that can be fetched, as far as the chunk before knows it."""
        chunk = chunk_of(number)
        near = [entry for one in (chunk - 1, chunk) if one > 0 for entry in self._chunk(one)]
        return next((entry for entry in reversed(near) if entry.number < number and entry.live), None)

    def _chunk(self, chunk: int) -> list[VersionEntry]:
        if chunk not in self._chunks:
            path = data_file(self._model, chunk)
            data = self._place.read(path)
            self._chunks[chunk] = [] if data is None else read_chunk(data, path)
        return self._chunks[chunk]


def _version(
    pages: Pages, model: str, known: KnownVersion, names: Mapping[str, int], previous: VersionEntry | None
) -> bytes:
    channels = [name for name, number in names.items() if number == known.entry.number]
    return pages.version(model, known, channels, previous)


def _row(
    model: str,
    channels: Sequence[KnownChannel],
    problems: Sequence[str],
    entries: Mapping[int, VersionEntry],
    totals: Sequence[ChunkTotals],
) -> ModelRow:
    """What the registry's page says of a model, of which its newest versions and those in use are known."""
    live = [entry for entry in entries.values() if entry.live]
    newest = max(live, key=lambda entry: entry.number, default=None)
    damaged = [number for chunk in totals for number in chunk.damaged]
    faults = [
        *problems,
        *faults_of_channels(channels, entries),
        *([f"Damaged: {', '.join(f'v{number}' for number in damaged)}."] if damaged else []),
    ]
    row = ModelRow(
        name=model,
        channels={known.name: known.channel.version for known in channels},
        problems=tuple(faults),
        chunks=tuple(totals),
    )
    if newest is None:
        return row
    return row._replace(
        newest=newest.number, at=newest.at, task=newest.task, source=newest.source, weights=newest.weights
    )
