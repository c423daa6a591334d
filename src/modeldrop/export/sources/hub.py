"""A model on the Hugging Face Hub, or on a server with its API (HF_ENDPOINT), as a source.

The rules of trust:

1. A revision is turned into a commit once; every file after that comes from the commit.
2. The Hub's own figures are held against what arrives: the client checks no digest, and takes altered
   bytes of the right length. Without the figures (offline, or a mirror that gives none) the names
   of the blobs in the cache, which are digests, do the same.
3. Offline, no request is sent: the client's cache is read, and what is not in it is an error.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modeldrop.errors import SourceError
from modeldrop.export.sources import disk, file_choice, hub_client, hub_names, hub_settings
from modeldrop.export.sources.file_choice import FileRules
from modeldrop.export.sources.hub_api import Revision, ask_revision, read_file
from modeldrop.export.sources.hub_errors import not_a_hub
from modeldrop.export.sources.interface import FileListSource, Progress
from modeldrop.format.names import HEX64
from modeldrop.util.files import replace_file

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """What is known of a file before it is downloaded; None for what the server does not say."""

    size: int | None = None
    sha256: str | None = None
    blob_id: str | None = None

    def difference(self, size: int, sha256: Callable[[], str], blob_id: Callable[[], str]) -> str:
        """How what came differs from what the Hub says; "" where it does not. Its digests are asked for if need be."""
        if self.size is not None and size != self.size:
            return f"it has {size} bytes, the Hub says {self.size}"
        if self.sha256 is not None:
            actual = sha256()
            return "" if actual == self.sha256 else f"its SHA-256 is {actual}, the Hub says {self.sha256}"
        if self.blob_id is not None:
            actual = blob_id()
            return "" if actual == self.blob_id else f"its git blob id is {actual}, the Hub says {self.blob_id}"
        return ""


class HubSource(FileListSource):
    """``org/name[@revision]`` at the commit that the revision (else ``main``) names now: one request, none if offline.

    Raises:
        UsageError: the id or the revision is malformed.
        SourceError: it is missing, private, has no usable weights, or cannot be reached.

    To download weights huggingface_hub must be installed; to resolve a revision and read its documents nothing need be.
    """

    def __init__(self, repository: str, *, spec: str, offline: bool | None, rules: FileRules) -> None:
        self.spec = spec
        name, at, wanted = repository.partition("@")
        revision = wanted if at else "main"
        hub_names.check_repository(name, spec)
        hub_names.check_revision(revision, spec)
        self._offline = hub_settings.wants_offline() if offline is None else offline
        self._licence: str | None = None
        self._listing: Mapping[str, HubFile]
        if self._offline:
            commit, self._listing = _cached(name, revision)
        else:
            answer = ask_revision(name, revision)
            commit = str(answer.get("sha"))
            if not _COMMIT.fullmatch(commit):
                raise not_a_hub()
            self._listing, self._licence, self.gated = _listing(answer), _licence(answer), bool(answer.get("gated"))
        self.repository = self._repository = name
        self.commit = self._commit = commit
        self._revision = revision
        self._verified: dict[str, Path] = {}
        self._read: dict[str, bytes] = {}
        self._choose(self._listing, f"{name}@{commit[:12]}", rules)

    @property
    def identity(self) -> str:
        return f"hf:{self._repository}@{self._commit}"

    @property
    def licence(self) -> str | None:
        if self._licence is None and self._offline and "README.md" in self._listing:
            self._licence = file_choice.licence_in(disk.read_readme(self._fetch("README.md")))
        return self._licence

    def weight_bytes(self) -> int:
        return sum(self._size(name) for name in self._with_shards().weights)

    def materialize(self, into: Path, progress: Progress | None = None) -> Path:
        paths: dict[str, Path] = {}
        choice = self._with_data(self._with_shards(), self._fetch)
        for name in choice.names:
            if progress is not None:
                progress(name, 0, self._listing[name].size or 0)
            paths[name] = self._fetch(name)
            if name.endswith(".safetensors"):
                disk.check_safetensors(paths[name], self._called(name))
            if progress is not None:
                size = paths[name].stat().st_size
                progress(name, size, size)
        disk.link_into(into, {choice.target(name): path for name, path in paths.items()})
        self._remember()
        return into

    def _remember(self) -> None:
        """Tell the client's cache which commit the branch names, so that it is found offline.

        The client does so only for what it downloads by the branch's name. It does so first; here it
        comes last, when the files are there.
        """
        if self._offline or self._revision == self._commit:
            return
        ref = hub_settings.storage(self._repository) / "refs" / self._revision
        # A cache that is shared and read-only served us well enough.
        with suppress(OSError):
            ref.parent.mkdir(parents=True, exist_ok=True)
            replace_file(ref, self._commit.encode("ascii"))

    @property
    def _in_cache(self) -> bool:
        """Whether files are, or come, in the client's cache; else small ones are read by us."""
        return self._offline or hub_client.is_installed()

    def _bytes(self, name: str) -> bytes:
        if self._in_cache:
            return self._fetch(name).read_bytes()
        if name not in self._read:
            data = read_file(self._repository, self._commit, name)
            how = self._listing[name].difference(
                len(data),
                lambda: hashlib.sha256(data).hexdigest(),
                lambda: disk.git_blob_id(io.BytesIO(data), len(data)),
            )
            if how:
                raise SourceError(
                    f"{self._called(name)} is damaged: {how}.",
                    "Run it again. If that does not help, a proxy or a mirror alters the file.",
                )
            self._read[name] = data
        return self._read[name]

    def _size(self, name: str) -> int:
        size = self._listing[name].size
        return self._ask_size(name) if size is None else size

    def _document(self, name: str) -> Any:
        if self._in_cache:
            return disk.read_json(self._fetch(name), self._called(name))
        return super()._document(name)

    def _called(self, name: str) -> str:
        return f"{name} of {self._where}"

    def _fetch(self, name: str) -> Path:
        """The path of a file in the client's cache, downloaded if need be, and verified once."""
        if name not in self._verified:
            cached = hub_settings.storage(self._repository) / "snapshots" / self._commit / name
            path = cached if self._offline else self._download(name)
            self._verify(name, path)
            self._verified[name] = path
        return self._verified[name]

    def _download(self, name: str) -> Path:
        with hub_client.client(self._repository, self._commit, name) as hub:
            return Path(
                hub.hf_hub_download(
                    self._repository,
                    name,
                    revision=self._commit,
                    cache_dir=hub_settings.cache(),
                    endpoint=hub_settings.endpoint(),
                    etag_timeout=hub_settings.timeout(),
                    library_name="modeldrop",
                )
            )

    def _ask_size(self, name: str) -> int:
        with hub_client.client(self._repository, self._commit, name) as hub:
            url = hub.hf_hub_url(self._repository, name, revision=self._commit, endpoint=hub_settings.endpoint())
            return int(
                hub.get_hf_file_metadata(url, timeout=hub_settings.timeout(), endpoint=hub_settings.endpoint()).size
                or 0
            )

    def _verify(self, name: str, path: Path) -> None:
        promised = self._listing[name]
        blob = Path(os.path.realpath(path))
        try:
            size = blob.stat().st_size
        except OSError as error:
            raise disk.unreadable_file(self._called(name), error) from error
        if promised.sha256 is None and promised.blob_id is None and blob.parent.name == "blobs":
            promised = replace(
                promised,
                sha256=blob.name if HEX64.fullmatch(blob.name) else None,
                blob_id=blob.name if _COMMIT.fullmatch(blob.name) else None,
            )

        def blob_id() -> str:
            with disk.opened(blob, self._called(name)) as file:
                return disk.git_blob_id(file, size)

        how = promised.difference(size, lambda: disk.sha256_of(blob, self._called(name)), blob_id)
        if how:
            raise SourceError(
                f"{self._called(name)} is damaged: {how}.",
                f"Delete {blob} and run again. If that does not help, a proxy or a mirror alters the file.",
            )


def _listing(answer: Revision) -> dict[str, HubFile]:
    try:
        return {str(sibling["rfilename"]): _file(sibling) for sibling in answer.get("siblings") or ()}
    except (AttributeError, KeyError, TypeError):
        raise not_a_hub() from None


def _file(sibling: Mapping[str, Any]) -> HubFile:
    # For a file in LFS, size and digest are the file's, and the blob is only the pointer to it.
    if lfs := sibling.get("lfs"):
        return HubFile(size=lfs["size"], sha256=lfs["sha256"])
    return HubFile(size=sibling.get("size"), blob_id=sibling.get("blobId"))


def _licence(answer: Revision) -> str | None:
    card = answer.get("cardData")
    licence = card.get("license") if isinstance(card, dict) else None
    if isinstance(licence, list):
        licence = licence[0] if licence else None
    if licence is None:
        tags = (str(tag) for tag in answer.get("tags") or () if str(tag).startswith("license:"))
        licence = next(tags, "").removeprefix("license:")
    return str(licence) or None


def _cached(repository: str, revision: str) -> tuple[str, dict[str, HubFile]]:
    """The commit and the files that the client's cache has for a revision."""
    storage = hub_settings.storage(repository)
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (storage / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            commit = ""
    snapshot = storage / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not snapshot.is_dir():
        raise SourceError(
            f"{repository}@{revision} is not in the cache {hub_settings.cache()}, and the Hub is not asked.",
            "Offline only the cache is used: run once without HF_HUB_OFFLINE, or give a checkpoint folder.",
        )
    listing = {
        path.relative_to(snapshot).as_posix(): HubFile(size=path.stat().st_size)
        for path in sorted(snapshot.rglob("*"))
        if path.is_file()
    }
    return commit, listing
