"""Snapshots: a version on the local disk, complete and verified.

The two record types here are the two ends of a fetch: ``LocalSnapshot`` is a folder that was found or made,
``Snapshot`` is what a caller is given.

Records that a fetch of what is there already imports are NamedTuples or plain classes: importing the standard
library's ``dataclasses`` takes longer than such a fetch waits for its registry. Everything else may use dataclasses.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from modeldrop.errors import FormatError
from modeldrop.fetcher.layout import folder_suffix, read_renames
from modeldrop.format.names import hex_digest
from modeldrop.util.cached import cached_property
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modeldrop.format.manifest import Graph, Manifest

MANIFEST_FILE = "manifest.json"
SHORT_DIGEST = 12
_FOLDER = re.compile(r"v([1-9][0-9]{0,8})-([a-z0-9][a-z0-9._-]{0,63})-([0-9a-f]{12})((?:\+[0-9a-f]{8})?)")


class TransferStats(NamedTuple):
    """What it took to bring a snapshot to this disk.

    Attributes:
        fetched: bytes that came from the registry, those that came twice or in vain included.
        adopted: bytes that an earlier attempt had left, and that matched their digests.
        linked: bytes that other snapshots on this disk had.
        retries: requests that had to be made again.
        seconds: from the first question to the answer.
        saved: bytes that need not come, because they could be made of an older version and of what came.
    """

    fetched: int = 0
    adopted: int = 0
    linked: int = 0
    retries: int = 0
    seconds: float = 0.0
    saved: int = 0

    @property
    def found_all(self) -> bool:
        """Whether everything was there already."""
        return not (self.fetched or self.adopted or self.linked or self.saved)

    def plus(self, other: TransferStats) -> TransferStats:
        """Both together."""
        return TransferStats(
            fetched=self.fetched + other.fetched,
            adopted=self.adopted + other.adopted,
            linked=self.linked + other.linked,
            retries=self.retries + other.retries,
            seconds=self.seconds + other.seconds,
            saved=self.saved + other.saved,
        )


NO_TRANSFER = TransferStats()


class LocalSnapshot:
    """A finished snapshot's folder, called ``v2-int8-3f9a1c2b4d5e``.

    The name says the version's number, the variant, and how the manifest's digest begins; ``+`` and a digest of the
    renaming follow where ``--as`` or ``--for`` has renamed a file. Everything else is read from the folder when it is
    first asked for; then FormatError says that it was changed after it was finished, OSError that it cannot be read.

    Args:
        path: the folder.
        manifest: the version's, where it has been parsed already.

    Raises:
        FormatError: no snapshot's folder is called so.
    """

    def __init__(self, path: Path, manifest: Manifest | None = None) -> None:
        name = _FOLDER.fullmatch(path.name)
        if name is None:
            raise FormatError(f"{path} is not called as a snapshot is.")
        self.path = path
        self.version = int(name[1])
        self.variant = name[2]
        self.short_digest = name[3]
        self.suffix = name[4]
        if manifest is not None:
            self.manifest = manifest

    @cached_property
    def manifest_bytes(self) -> bytes:
        """The manifest as it was published."""
        data = (self.path / MANIFEST_FILE).read_bytes()
        found = hex_digest(data)
        if not found.startswith(self.short_digest):
            raise FormatError(f"{self.path / MANIFEST_FILE} has the digest sha256:{found}, not that of its folder.")
        return data

    @cached_property
    def digest(self) -> str:
        """The manifest's digest (``sha256:…``)."""
        return f"sha256:{hex_digest(self.manifest_bytes)}"

    @cached_property
    def manifest(self) -> Manifest:
        """The version's manifest."""
        from modeldrop.format.manifest import parse_manifest  # a snapshot that is found unchanged needs none of it

        return parse_manifest(self.manifest_bytes)

    @cached_property
    def renamed(self) -> Mapping[str, str]:
        """Path in the version to path in the folder, where they differ."""
        renamed = read_renames(self.path) if self.suffix else {}
        if folder_suffix(renamed) != self.suffix:
            raise FormatError(f"The note of renamed files in {self.path} is not that of its folder.")
        return renamed

    @cached_property
    def model(self) -> str:
        """Path of the variant's graph in the folder."""
        return self._files[0]

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """The size of every file, by its path in the folder."""
        return self._files[1]

    @cached_property
    def _files(self) -> tuple[str, Mapping[str, int]]:
        # Not by parsing the manifest: that was done when it came, its digest says that it is still the same, and it
        # takes longer than everything else in a fetch of what is there already.
        import json

        try:
            plain = json.loads(self.manifest_bytes)
            (variant,) = (one for one in plain["variants"] if one["name"] == self.variant)
            sizes = {file["path"]: file["size"] for file in plain["files"]}
            model = variant["model"]
            found = {self.renamed.get(path, path): sizes[path] for path in variant["files"]}
        except (ValueError, LookupError, TypeError, RecursionError):
            raise FormatError(f"{self.path / MANIFEST_FILE} does not describe the variant {self.variant}.") from None
        return self.renamed.get(model, model), found


class Snapshot:
    """A variant of a version on the local disk. Path-like: ``os.fspath`` gives its folder. Immutable.

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
            for a pinned version; None where nobody knows, because the clock was set back since.
        checked: ``registry`` where it was asked just now; ``disk`` where what was there is used: a pinned version,
            or the last good one of a channel that could not be asked.
        figures: what it took.
        warnings: what whoever runs this should know, a sentence each.
    """

    __slots__ = (
        "age",
        "channel",
        "checked",
        "digest",
        "figures",
        "generation",
        "model",
        "path",
        "registry",
        "variant",
        "version",
        "warnings",
    )  # fmt: skip
    path: Path
    model: str
    version: int
    variant: str
    digest: str
    registry: str
    channel: str | None
    generation: int | None
    age: float | None
    checked: str
    figures: TransferStats
    warnings: tuple[str, ...]

    def __init__(  # noqa: PLR0913  by name
        self,
        *,
        path: Path,
        model: str,
        version: int,
        variant: str,
        digest: str,
        registry: str,
        channel: str | None = None,
        generation: int | None = None,
        age: float | None = 0.0,
        checked: str = "registry",
        figures: TransferStats = NO_TRANSFER,
        warnings: tuple[str, ...] = (),
    ) -> None:
        values = locals()
        for name in self.__slots__:
            object.__setattr__(self, name, values[name])

    def with_values(self, **changes: Any) -> Snapshot:
        """Another one that differs in these attributes."""
        return Snapshot(**{name: getattr(self, name) for name in self.__slots__} | changes)

    @property
    def downloaded(self) -> int:
        """Bytes that had to be fetched; 0 where all was there."""
        return self.figures.fetched

    @property
    def manifest(self) -> Manifest:
        """The version's manifest, read from the snapshot."""
        from modeldrop.format.manifest import parse_manifest

        return parse_manifest((self.path / MANIFEST_FILE).read_bytes())

    @property
    def model_file(self) -> Path:
        """The graph that a runtime opens."""
        return self.path / LocalSnapshot(self.path).model

    @property
    def model_files(self) -> Mapping[str, Path]:
        """Every graph of the model, by its role: one called ``model``, or several by their names."""
        renamed = LocalSnapshot(self.path).renamed
        return {role: self.path / renamed.get(graph.path, graph.path) for role, graph in self.signature.items()}

    @property
    def signature(self) -> Mapping[str, Graph]:
        """What goes into every graph and comes out of it, by its role: names, types and shapes."""
        variant = self.manifest.variant(self.variant)
        return {} if variant is None else variant.signature

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
            "age_seconds": None if self.age is None else round(self.age, 3),
            "checked": self.checked,
            "downloaded_bytes": self.figures.fetched,
            "adopted_bytes": self.figures.adopted,
            "linked_bytes": self.figures.linked,
            "saved_bytes": self.figures.saved,
            "retries": self.figures.retries,
            "seconds": round(self.figures.seconds, 3),
            "warnings": list(self.warnings),
            "model_file": str(self.model_file),
        }

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Snapshot({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a snapshot is immutable: cannot set {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a snapshot is immutable: cannot delete {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Snapshot, **{name: getattr(self, name) for name in self.__slots__}), ()

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


def folder_name(version: int, variant: str, digest: str, suffix: str = "") -> str:
    """What the folder of a snapshot is called.

    Args:
        version: the version's number.
        variant: the variant's name.
        digest: the manifest's digest, ``sha256:…``.
        suffix: see ``layout.folder_suffix``.
    """
    return f"v{version}-{variant}-{digest.removeprefix('sha256:')[:SHORT_DIGEST]}{suffix}"
