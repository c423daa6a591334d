"""A folder as a source: a checkpoint that save_pretrained or a training run wrote, or ready graphs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from modeldrop.errors import SourceError
from modeldrop.export.sources import disk, file_choice, graphs
from modeldrop.export.sources.file_choice import DEFAULT, FileRules
from modeldrop.export.sources.interface import FileListSource, Progress
from modeldrop.format.names import hex_digest
from modeldrop.format.variants import FP32

# Other folders (checkpoint-500/, runs/) hold nothing that is needed and may be huge.
_SUBFOLDERS = re.compile(r"\d+_.+|additional_chat_templates|onnx|openvino")
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_LIMIT = 1024


class FolderSource(FileListSource):
    r"""A folder with config.json, a tokenizer, and weights or ready graphs.

    Its identity is ``sha256:`` and the digest of the sorted lines ``<SHA-256>  <path>\n`` of every file
    that influences the build: what else lies in the folder, where it lies and its README do not count.
    Links are followed, wherever they lead: the snapshots of the Hugging Face cache are made of them.

    Raises:
        SourceError: no such folder, no config.json, no weights that may be loaded, a missing shard or data file.
    """

    def __init__(self, folder: Path, *, spec: str = "", rules: FileRules = DEFAULT) -> None:
        self.spec = spec or str(folder)
        self._folder = folder
        self._identity: str | None = None
        self._stamps = _listing(folder, self.spec)
        for path in _files_in(folder / rules.graph):
            self._stamps[path.relative_to(folder).as_posix()] = _stamp(path)
        for pattern in rules.files:
            file_choice.check_name(pattern, "files")
            self._stamps |= {path.relative_to(folder).as_posix(): _stamp(path) for path in _matching(folder, pattern)}
        self._choose(self._stamps, self.spec, rules)
        for graph in self._choice.graphs.values():
            self._check_there(graph)
        self._choice = self._with_data(self._with_shards(), self._path)
        if self._choice.framework and self._choice.graphs:
            found = [
                graphs.variant_of(self._path(graph), self._called(graph)) for graph in self._choice.graphs.values()
            ]
            self.brought = next((variant for variant in found if variant != FP32.name), FP32.name)
        for name in self._choice.names:
            self._check_there(name)
        self._config = super().config()
        self.openvino_graph()  # refused here, if it is not whole

    @property
    def identity(self) -> str:
        if self._identity is None:
            lines = []
            for name in self._choice.building:
                digest = disk.sha256_of(self._path(name), self._called(name))
                self._check_unchanged(name)
                lines.append(f"{digest}  {name}\n")
            self._identity = "sha256:" + hex_digest("".join(sorted(lines)).encode())
        return self._identity

    @property
    def licence(self) -> str | None:
        readme = next((name for name in self._choice.papers if name.lower() == "readme.md"), None)
        return file_choice.licence_in(disk.read_readme(self._path(readme))) if readme else None

    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def weight_bytes(self) -> int:
        return sum(size for size, _ in (self._stamps[name] for name in self._choice.weights))

    def materialize(self, into: Path, progress: Progress | None = None) -> Path:
        for name in self._choice.names:
            self._check_unchanged(name)
            if name.endswith(".safetensors"):
                disk.check_safetensors(self._path(name), self._called(name))
        disk.link_into(into, {self._choice.target(name): self._path(name) for name in self._choice.names})
        if progress is not None:
            for name in self._choice.names:
                progress(name, self._stamps[name][0], self._stamps[name][0])
        return into

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _bytes(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            raise disk.unreadable_file(self._called(name), error) from error

    def _size(self, name: str) -> int:
        return self._stamps[name][0]

    def _document(self, name: str) -> Any:
        return disk.read_json(self._path(name), self._called(name))

    def _check_there(self, name: str) -> None:
        """Refuse a link to nowhere, a file that may not be read, and what git left in a file's place."""
        path, size = self._path(name), self._stamps[name][0]
        if size < 0:
            raise SourceError(
                f"{self._called(name)} is a link to {os.path.realpath(path)}, which does not exist.",
                "Copy the folder with its links followed (cp -rL), or download the model again.",
            )
        try:
            with path.open("rb") as file:
                start = file.read(len(_POINTER)) if size < _POINTER_LIMIT else b""
        except OSError as error:
            raise disk.unreadable_file(self._called(name), error) from error
        if start == _POINTER:
            raise SourceError(
                f"{self._called(name)} is a Git LFS pointer of {size} bytes, not the file itself.",
                f"Run `git lfs pull` in {self._folder}.",
            )

    def _check_unchanged(self, name: str) -> None:
        """A trainer that still writes would give us half of one state and half of another."""
        if _stamp(self._path(name)) != self._stamps[name]:
            raise SourceError(
                f"{self._called(name)} has changed since it was looked at first.",
                "Wait until whatever writes this folder has finished, then run again.",
            )


def _listing(folder: Path, spec: str) -> dict[str, tuple[int, int]]:
    """Every file of the folder that might be needed, with a stamp that tells when it changes."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.is_file() else "does not exist"
        raise SourceError(
            f"The checkpoint folder {spec} {what}.",
            f"Looked at {folder.absolute()}. A model on the Hugging Face Hub is written org/name.",
        )
    found: dict[str, tuple[int, int]] = {}
    try:
        for entry in sorted(folder.iterdir()):
            if not entry.is_dir():
                found[entry.name] = _stamp(entry)
            elif _SUBFOLDERS.fullmatch(entry.name):
                inner = (path for path in sorted(entry.iterdir()) if not path.is_dir())
                found.update({f"{entry.name}/{path.name}": _stamp(path) for path in inner})
    except OSError as error:
        raise disk.unreadable_file(f"The checkpoint folder {spec}", error) from error
    return found


def _files_in(path: Path) -> list[Path]:
    """The files of a folder, or those beside a file."""
    folder = path if path.is_dir() else path.parent
    try:
        return sorted(file for file in folder.iterdir() if not file.is_dir())
    except OSError:
        return []  # choosing the files reports what is missing


def _matching(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.is_dir())


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of last change; a size of -1 for a link to nowhere."""
    try:
        stat = path.stat()
    except OSError:
        return -1, 0
    return stat.st_size, stat.st_mtime_ns
