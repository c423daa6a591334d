"""Registries of documents alone, in folders: as many versions as a test or a benchmark wants, without their files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from modeldrop.format.channel import Channel, Move, serialize_channel
from modeldrop.format.manifest import Manifest, manifest_digest, serialize_manifest
from modeldrop.storage.write.folder import FolderStore
from modeldrop.storage.write.store import StoredObject
from tests.format import examples

_FIRST_BUILD = 1_780_000_000
_DAY = 86_400
_KEPT_MOVES = 20


def paper_manifest(number: int) -> Manifest:
    """The manifest of a version, a little other for each number."""
    manifest = examples.manifest()
    variants = []
    for index, variant in enumerate(manifest.variants):
        metrics = {name: value * (1 - 5e-7 * (number * 7 % 11)) for name, value in variant.fidelity.metrics.items()}
        speed = variant.speed and variant.speed._replace(batch_1_ms=variant.speed.batch_1_ms + (number + index) % 5 / 9)
        variants.append(variant._replace(fidelity=variant.fidelity._replace(metrics=metrics), speed=speed))
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_FIRST_BUILD + number * _DAY))
    return manifest._replace(
        variants=tuple(variants),
        provenance=manifest.provenance._replace(created=created, actor=f"dana{number % 3}"),
    )


def add_paper_version(registry: Path, model: str, number: int, manifest: Manifest | None = None) -> str:
    """Put a version there as a publish leaves it, its files empty; return its digest."""
    manifest = manifest or paper_manifest(number)
    folder = registry / model / f"v{number}"
    folder.mkdir(parents=True)
    for name in ("claim.json", "bom.cdx.json", "report.html", *(file.path for file in manifest.files)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    data = serialize_manifest(manifest)
    (folder / "manifest.json").write_bytes(data)
    return manifest_digest(data)


def move_paper_channel(registry: Path, model: str, moves: Mapping[int, str]) -> None:
    """Have ``current`` name the last of these versions, after the others; by version, their digests."""
    made = [
        Move(
            version=number,
            digest=digest,
            generation=index + 1,
            nonce=f"{index:x}",
            action="publish",
            by="dana",
            at=f"2026-11-{index % 28 + 1:02}T10:00:00Z",
        )
        for index, (number, digest) in enumerate(moves.items())
    ][-_KEPT_MOVES:]
    (registry / model / "current").write_bytes(serialize_channel(Channel(made[-1], tuple(made[-2::-1]))))


def make_paper_registry(registry: Path, models: int, versions: int) -> Path:
    """A registry of so many models with so many versions each, the last of which is ``current``."""
    for index in range(models):
        model = f"model-{index:03}"
        move_paper_channel(
            registry, model, {number: add_paper_version(registry, model, number) for number in range(1, versions + 1)}
        )
    return registry


class CountingStore(FolderStore):
    """A folder registry that notes the manifests that are read, and what is written."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.manifests: list[str] = []
        self.writes: list[str] = []

    def forget(self) -> None:
        """Begin to count anew."""
        self.manifests.clear()
        self.writes.clear()

    def get(self, key: str) -> StoredObject | None:
        if key.endswith("/manifest.json"):
            self.manifests.append(key)
        return super().get(key)

    def create(self, key: str, data: bytes) -> None:
        self.writes.append(key)
        super().create(key, data)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        self.writes.append(key)
        super().swap(key, data, previous)
