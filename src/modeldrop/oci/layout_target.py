"""A folder with an OCI image layout as the target of an export: what ``skopeo copy oci:FOLDER:TAG`` reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.errors import ConflictError, DiskError, IntegrityError, UsageError
from modeldrop.oci.documents import OCI_INDEX
from modeldrop.oci.targets import moved_meanwhile
from modeldrop.util.files import make_folders, remove_tree, replace_file, replacing, sync_folder
from modeldrop.util.locks import held_in_turn
from modeldrop.util.retry import Deadline

if TYPE_CHECKING:
    from modeldrop.oci.blobs import Blob, Content
    from modeldrop.oci.documents import PushedDocument

_MARK, _INDEX, _BLOBS = "oci-layout", "index.json", "blobs/sha256"
_MARK_CONTENT = b'{"imageLayoutVersion":"1.0.0"}'
_TAG = "org.opencontainers.image.ref.name"
_MAX_INDEX = 16 << 20
_LOCK, _LOCK_SECONDS, _LOCK_PAUSE = ".modeldrop.lock", 60.0, 0.05


class LayoutTarget:
    """A folder with an OCI image layout, made if it is not there. The methods are described in ``targets.Target``.

    Args:
        folder: the folder.
        url: how people call it.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self._folder = folder
        self._made: list[Path] = []
        self._is_new = False

    def check(self) -> None:
        with self._explained():
            there = sorted(path.name for path in self._folder.iterdir()) if self._folder.exists() else []
            self._is_new = not there
            if there and _MARK not in there:
                raise UsageError(
                    f"{self._folder} holds something else ({there[0]}), and is no OCI layout.",
                    "Name a new folder, or one that skopeo, buildah or an export has made.",
                )
            if there:
                self._read_index()

    def tagged(self, tag: str) -> str | None:
        with self._explained():
            return next((entry["digest"] for entry in self._read_index()["manifests"] if _tag_of(entry) == tag), None)

    def begin(self, content: Content) -> None:
        """Nothing: a disk writes as fast as two threads read."""

    def has(self, blob: Blob) -> bool:
        with self._explained():
            path = self._path(blob.digest)
            return path.is_file() and path.stat().st_size == blob.size

    def push(self, blob: Blob, progress: Callable[[int], None]) -> None:
        with self._explained():
            path = self._path(blob.digest)
            self._make()
            hasher = hashlib.sha256()
            with replacing(path) as temporary:
                with temporary.open("xb") as target:
                    for chunk in blob.read():
                        hasher.update(chunk)
                        target.write(chunk)
                        progress(len(chunk))
                    target.flush()
                    os.fsync(target.fileno())
                if f"sha256:{hasher.hexdigest()}" != blob.digest:
                    raise IntegrityError(
                        f"{self.url}: {blob.digest} was read as sha256:{hasher.hexdigest()}.",
                        "A disk has damaged the snapshot: modeldrop verify. Then run the same command again.",
                    )
            self._made.append(path)

    def push_manifest(self, document: PushedDocument) -> None:
        self.push(document.blob, lambda _: None)

    def tag(self, document: PushedDocument, tag: str, before: str | None) -> None:
        if not self.has(document.blob):
            self.push_manifest(document)
        with self._explained():
            self._make()
            sync_folder(self._folder / _BLOBS)
            with held_in_turn(self._folder / _LOCK, Deadline(_LOCK_SECONDS), _LOCK_PAUSE):
                index = self._read_index()
                others = [entry for entry in index["manifests"] if _tag_of(entry) != tag]
                found = next((entry["digest"] for entry in index["manifests"] if _tag_of(entry) == tag), None)
                if found != before:
                    raise ConflictError(moved_meanwhile(self.url, tag, found), "Run the same command again.")
                entry = {
                    "annotations": {_TAG: tag},
                    "digest": document.blob.digest,
                    "mediaType": document.media_type,
                    "size": document.blob.size,
                }
                index["manifests"] = sorted([*others, entry], key=lambda one: (_tag_of(one), one["digest"]))
                replace_file(self._folder / _INDEX, _dump(index), sync=True)
            self._made.clear()

    def close(self, *, failed: bool) -> None:
        if not failed:
            return
        for path in self._made:
            path.unlink(missing_ok=True)
        if self._is_new and not (self._folder / _INDEX).exists():
            remove_tree(self._folder)

    def _path(self, digest: str) -> Path:
        return self._folder / _BLOBS / digest.removeprefix("sha256:")

    def _make(self) -> None:
        make_folders(self._folder / _BLOBS)
        if not (self._folder / _MARK).exists():
            replace_file(self._folder / _MARK, _MARK_CONTENT, sync=True)

    def _read_index(self) -> dict[str, Any]:
        """What the layout has; an empty index where there is none yet."""
        try:
            with (self._folder / _INDEX).open("rb") as source:
                data = source.read(_MAX_INDEX)
        except FileNotFoundError:
            return {"manifests": [], "mediaType": OCI_INDEX, "schemaVersion": 2}
        try:
            index = json.loads(data)
            if any(not isinstance(entry["digest"], str) for entry in index["manifests"]):
                raise ValueError
            sorted(_tag_of(entry) for entry in index["manifests"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise UsageError(
                f"{self._folder / _INDEX} is no index of an OCI layout.", "Name another folder, or remove this one."
            ) from None
        found: dict[str, Any] = index
        return found

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(
                f"{error.filename or self._folder} cannot be used: {error.strerror or error}.",
                "Check who may use it, and what room there is.",
            ) from error


def _tag_of(entry: dict[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(_TAG, ""))


def _dump(index: dict[str, Any]) -> bytes:
    return json.dumps(index, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
