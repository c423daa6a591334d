"""Snapshots: a version on the local disk, complete and verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.format.manifest import Manifest, Variant, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A variant of a version on the local disk. Path-like: ``os.fspath`` gives its folder.

    Attributes:
        path: the folder; files in it are complete, verified and read-only, and it never changes.
        model: the model's name.
        version: the version's number.
        variant: the variant's name.
        digest: the manifest's digest (``sha256:…``).
        registry: where it came from.
        channel: the channel that was followed, None for a pinned version.
        generation: the channel's generation then, None for a pinned version.
        downloaded: bytes that had to be fetched by this call; 0 where all was there.
    """

    path: Path
    model: str
    version: int
    variant: str
    digest: str
    registry: str
    channel: str | None
    generation: int | None
    downloaded: int

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def manifest(self) -> Manifest:
        """The version's manifest, read from the snapshot."""
        return parse_manifest((self.path / MANIFEST).read_bytes())

    @property
    def model_file(self) -> Path:
        """The graph that a runtime opens."""
        variant = self.manifest.variant(self.variant)
        if variant is None:
            raise KeyError(self.variant)
        return self.path / variant.model

    def to_json(self) -> Mapping[str, object]:
        """All about it as plain values."""
        return {
            "path": str(self.path),
            "model": self.model,
            "version": f"v{self.version}",
            "variant": self.variant,
            "digest": self.digest,
            "registry": self.registry,
            "channel": self.channel,
            "generation": self.generation,
            "downloaded_bytes": self.downloaded,
            "model_file": str(self.model_file),
        }


MANIFEST = "manifest.json"


def is_whole(folder: Path, manifest: Manifest, variant: Variant) -> bool:
    """Whether a finished snapshot still has all files of a variant at their sizes; a check by stat."""
    wanted = set(variant.files)
    try:
        return all((folder / file.path).stat().st_size == file.size for file in manifest.files if file.path in wanted)
    except OSError:
        return False
