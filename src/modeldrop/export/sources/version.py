"""A published version as a source: more variants are made of its fp32 graphs, without exporting again."""

from __future__ import annotations

from pathlib import Path

from modeldrop.config import default_registry
from modeldrop.errors import IntegrityError, SourceError
from modeldrop.export.sources import disk
from modeldrop.export.sources.generic import ONNX
from modeldrop.export.sources.interface import FileListSource, Progress
from modeldrop.format import keys
from modeldrop.format.manifest import File
from modeldrop.format.names import hex_digest
from modeldrop.format.reference import parse_reference
from modeldrop.format.tasks import GENERIC
from modeldrop.registry import versions
from modeldrop.storage.write import open_store

_FP32 = "fp32"


class VersionSource(FileListSource):
    """The fp32 variant of a version. Its identity is the digest of the manifest, which names every file's digest.

    Args:
        reference: as anywhere else; a channel is followed once, here.

    Raises:
        UsageError: it is no reference, or names a registry that cannot be opened.
        SourceError: there is no such version, or it has no fp32 variant.
        RegistryError: the registry cannot be read.
    """

    worker = "adopt"

    def __init__(self, reference: str) -> None:
        self.spec = reference
        wanted = parse_reference(reference, default_registry())
        self._model = wanted.model
        self._store = open_store(wanted.registry)
        self._version = versions.resolve_reference(self._store, wanted)
        self._where = f"{self._model} v{self._version.number}"
        manifest = self._version.manifest
        variant = manifest.variant(_FP32)
        if variant is None:
            there = ", ".join(one.name for one in manifest.variants)
            raise SourceError(
                f"{self._where} has no fp32 variant: it has {there}.",
                "Other variants are made of fp32. Name the source that it was built from.",
            )
        self._files = [manifest.file(path) for path in variant.files]
        self._weights = manifest.weights_of(variant)
        self.support = frozenset(variant.files)
        self.task, self.gated = manifest.task, manifest.source.gated
        self.left_out = manifest.source.left_out
        if self.task == GENERIC:
            self.worker, self.framework, self.roles = "generic", ONNX, tuple(variant.graphs)
        self.repository, self.commit = manifest.source.repository or None, manifest.source.commit or None

    @property
    def identity(self) -> str:
        return f"modeldrop:{self._version.digest}"

    @property
    def licence(self) -> str | None:
        return self._version.manifest.source.licence or None

    def weight_bytes(self) -> int:
        return self._weights

    def materialize(self, into: Path, progress: Progress | None = None) -> Path:
        disk.create_folder(into)
        for file in self._files:
            path = into / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if progress is not None:
                progress(file.path, 0, file.size)
            self._store.download(self._key(file), path, lambda _: None)
            if path.stat().st_size != file.size or disk.sha256_of(path, file.path) != file.sha256:
                raise self._damaged(file)
            if progress is not None:
                progress(file.path, file.size, file.size)
        return into

    def _bytes(self, name: str) -> bytes:
        file = self._version.manifest.file(name)
        stored = self._store.get(self._key(file))
        if stored is None or hex_digest(stored.data) != file.sha256:
            raise self._damaged(file)
        return stored.data

    def _size(self, name: str) -> int:
        return self._version.manifest.file(name).size

    def _key(self, file: File) -> str:
        return keys.file(self._model, self._version.number, file.path)

    def _damaged(self, file: File) -> IntegrityError:
        return IntegrityError(
            f"{self._store.url}/{self._key(file)} does not have the digest in the manifest.",
            "It was damaged or changed after it was published. Restore it, or name another version.",
        )
