"""A bucket as a source: a checkpoint where a training job left it, or ready graphs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from modeldrop.errors import SourceError
from modeldrop.export.sources import disk, file_choice
from modeldrop.export.sources.file_choice import ChosenFiles, FileRules
from modeldrop.export.sources.generic import FRAMEWORKS
from modeldrop.export.sources.interface import FileListSource, Progress
from modeldrop.format.names import hex_digest
from modeldrop.storage.write import open_store
from modeldrop.storage.write.store import ListedObject

_SUBFOLDERS = re.compile(r"(?:\d+_[^/]+|additional_chat_templates|onnx|openvino)/[^/]+")
_VERSION_MANIFEST = re.compile(r"v\d+/manifest\.json")
_MOST = 100_000
_MODELS = (".onnx", ".xml", *FRAMEWORKS)


class BucketSource(FileListSource):
    r"""The files below a URL, read with the cloud's own SDK and its way to sign in.

    Its identity is the URL, ``@sha256:``, and the digest of the sorted lines ``<size> <tag> <path>\n`` of every file
    that influences the build; the tag is the service's (S3's and Azure's ETag, GCS's generation). So nothing is
    downloaded to tell whether it was built before; the same bytes, uploaded again, may count as new.

    Raises:
        UsageError: no bucket can be called so.
        SourceError: nothing is there, or no config.json, weights, shards.
        RegistryError: it cannot be read.
        MissingExtraError: the cloud's SDK is not installed.
    """

    def __init__(self, url: str, *, spec: str, rules: FileRules) -> None:
        self.spec = spec
        if url.endswith(_MODELS):
            url, _, graph = url.rpartition("/")
            rules = replace(rules, graph=graph)
        self._store = open_store(url)
        self._graphs = f"{rules.graph.strip('/')}/" if not rules.graph.endswith(_MODELS) else ""
        self._graphs = self._graphs or f"{PurePosixPath(rules.graph).parent}/".removeprefix("./")
        self._listing = self._list()
        self._choose(self._listing, self._store.url, rules)
        self._choice = self._with_shards()

    @property
    def identity(self) -> str:
        found = ((name, self._listing[name]) for name in self._choice.building)
        lines = sorted(f"{listed.size} {listed.tag} {name}\n" for name, listed in found)
        return f"{self._store.url}@sha256:{hex_digest(''.join(lines).encode())}"

    @property
    def licence(self) -> str | None:
        readme = next((name for name in self._choice.papers if name.lower() == "readme.md"), None)
        stored = self._store.get(readme) if readme else None
        return file_choice.licence_in(stored.data.decode("utf-8", "replace")) if stored else None

    def weight_bytes(self) -> int:
        return sum(self._listing[name].size for name in self._choice.weights)

    def materialize(self, into: Path, progress: Progress | None = None) -> Path:
        disk.create_folder(into)
        choice = self._choice
        for name in choice.names:
            self._download(name, into / choice.target(name), progress)
        choice = self._with_data(choice, lambda graph: into / self._choice.target(graph))
        for name in set(choice.names) - set(self._choice.names):
            self._download(name, into / choice.target(name), progress)
        self._check_unchanged(choice)
        return into

    def _download(self, name: str, path: Path, progress: Progress | None) -> None:
        size, done = self._listing[name].size, 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(name, done, size)

        path.parent.mkdir(parents=True, exist_ok=True)
        self._store.download(name, path, count)
        if path.stat().st_size != size:
            raise self._changed(name)
        if name.endswith(".safetensors"):
            disk.check_safetensors(path, self._called(name))
        if progress is not None:
            progress(name, size, size)

    def _list(self) -> dict[str, ListedObject]:
        found: dict[str, ListedObject] = {}
        for number, listed in enumerate(self._store.objects("")):
            if number >= _MOST:
                raise SourceError(f"{self._store.url} has more than {_MOST} objects.", "Name the checkpoint's folder.")
            if _VERSION_MANIFEST.fullmatch(listed.key):
                raise SourceError(
                    f"{self._store.url} is a model that modeldrop published, not a checkpoint.",
                    f"Name its version or channel: {self._store.url}@current",
                )
            # What else lies below (checkpoint-500/, runs/) is not loaded.
            inner = bool(_SUBFOLDERS.fullmatch(listed.key))
            if "/" not in listed.key or inner or PurePosixPath(listed.key).parent.as_posix() + "/" == self._graphs:
                found[listed.key] = listed
        if not found:
            raise SourceError(f"There is nothing at {self._store.url}.", "Check the URL for a typing error.")
        return found

    def _check_unchanged(self, choice: ChosenFiles) -> None:
        """A trainer that still uploads would give us half of one state and half of another."""
        now = {name: (listed.size, listed.tag) for name, listed in self._list().items()}
        for name in choice.names:
            if now.get(name) != (self._listing[name].size, self._listing[name].tag):
                raise self._changed(name)

    def _changed(self, name: str) -> SourceError:
        return SourceError(
            f"{self._called(name)} has changed since it was looked at first.",
            "Wait until whatever writes there has finished, then run again.",
        )

    def _bytes(self, name: str) -> bytes:
        stored = self._store.get(name)
        if stored is None:
            raise self._changed(name)
        return stored.data

    def _size(self, name: str) -> int:
        return self._listing[name].size
