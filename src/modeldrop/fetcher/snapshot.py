"""Snapshots: a version on the local disk, complete and verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.format.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Figures:
    """What it took to bring a snapshot to this disk.

    Attributes:
        fetched: bytes that came from the registry.
        adopted: bytes that an earlier attempt had left, and that proved their digests.
        linked: bytes that other snapshots on this disk had.
        retries: requests that had to be made again.
        seconds: from the first question to the answer.
    """

    fetched: int = 0
    adopted: int = 0
    linked: int = 0
    retries: int = 0
    seconds: float = 0.0


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
        age: seconds since the registry last said that the channel names this; 0 where it was asked just now, and
            for a pinned version.
        checked: ``registry`` where it was asked just now; ``disk`` where what was there is used: a pinned version,
            or the last good one of a channel that could not be asked.
        figures: what it took.
        warnings: what whoever runs this should know, a sentence each.
    """

    path: Path
    model: str
    version: int
    variant: str
    digest: str
    registry: str
    channel: str | None
    generation: int | None
    age: float = 0.0
    checked: str = "registry"
    figures: Figures = Figures()
    warnings: tuple[str, ...] = ()

    @property
    def downloaded(self) -> int:
        """Bytes that had to be fetched; 0 where all was there."""
        return self.figures.fetched

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def manifest(self) -> Manifest:
        """The version's manifest, read from the snapshot."""
        from modeldrop.format.manifest import parse_manifest

        return parse_manifest((self.path / MANIFEST).read_bytes())

    @property
    def model_file(self) -> Path:
        """The graph that a runtime opens."""
        from modeldrop.fetcher.as_name import read_renames

        variant = self.manifest.variant(self.variant)
        if variant is None:
            raise KeyError(self.variant)
        return self.path / read_renames(self.path).get(variant.model, variant.model)

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
            "age_seconds": round(self.age, 3),
            "checked": self.checked,
            "downloaded_bytes": self.figures.fetched,
            "adopted_bytes": self.figures.adopted,
            "linked_bytes": self.figures.linked,
            "retries": self.figures.retries,
            "seconds": round(self.figures.seconds, 3),
            "warnings": list(self.warnings),
            "model_file": str(self.model_file),
        }


MANIFEST = "manifest.json"
