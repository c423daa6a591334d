"""Metrics of fetches in Prometheus' text format, for the textfile collector of node_exporter.

Counters count what this process has done, so that a new process begins at zero, as Prometheus expects.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError
from modeldrop.fetcher.snapshot import TransferStats
from modeldrop.util.files import replace_file
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from modeldrop.fetcher.snapshot import Snapshot


class ReferenceMetrics(NamedTuple):
    """What was counted of one reference: a model and its channel ("" for a pinned version).

    Attributes:
        snapshot: the last one that was fetched, None where none was yet.
        at: when that was, in Unix seconds.
        succeeded: whether the last attempt did.
        tried: when the last attempt ended, in Unix seconds.
        attempts: how many there were.
        failures: how many of them failed.
        stats: what all of them took together.
        hits: fetches that found everything there.
    """

    snapshot: Snapshot | None = None
    at: float = 0.0
    succeeded: bool = False
    tried: float = 0.0
    attempts: int = 0
    failures: int = 0
    stats: TransferStats = TransferStats()
    hits: int = 0


_NOTHING: Mapping[tuple[str, str], ReferenceMetrics] = MappingProxyType({})


class Metrics(NamedTuple):
    """The figures of one process. A value: ``with_…`` gives another one.

    Attributes:
        references: by model and channel.
    """

    references: Mapping[tuple[str, str], ReferenceMetrics] = _NOTHING

    def with_snapshot(self, snapshot: Snapshot, at: float) -> Metrics:
        """A fetch ended well, at ``at`` in Unix seconds."""
        key = (snapshot.model, snapshot.channel or "")
        before, figures = self.references.get(key, ReferenceMetrics()), snapshot.figures
        return self.with_reference(
            key,
            before._replace(
                snapshot=snapshot,
                at=at,
                succeeded=True,
                tried=at,
                attempts=before.attempts + 1,
                stats=before.stats.plus(figures),
                hits=before.hits + figures.found_all,
            ),
        )

    def with_failure(self, model: str, channel: str | None, at: float) -> Metrics:
        """A fetch failed, at ``at`` in Unix seconds."""
        key = (model, channel or "")
        before = self.references.get(key, ReferenceMetrics())
        return self.with_reference(
            key,
            before._replace(succeeded=False, tried=at, attempts=before.attempts + 1, failures=before.failures + 1),
        )

    def with_reference(self, key: tuple[str, str], values: ReferenceMetrics) -> Metrics:
        """Other values of one reference."""
        return Metrics({**self.references, key: values})

    def text(self, now: float) -> str:
        """The text, ordered by name. ``now``: in Unix seconds, for the age of what is known."""
        lines: list[str] = []
        for name, (kind, about) in _METRICS.items():
            samples = [
                f"{name}{_labels(labels)} {_number(value)}"
                for key in sorted(self.references)
                for found, labels, value in _samples(*key, self.references[key], now)
                if found == name
            ]
            if samples:
                lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *samples]
        return "".join(f"{line}\n" for line in lines)

    def write(self, path: str | os.PathLike[str], now: float) -> None:
        """Put the text into a file, at once, readable by all.

        Raises:
            DiskError: it cannot be written.
        """
        path = Path(path)
        try:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(path.lstat().st_mode):
                    raise DiskError(f"Metrics cannot be written to {path}: it is no file.", "Name a file: --metrics.")
            replace_file(path, self.text(now).encode(), mode=0o644)
        except OSError as error:
            raise DiskError(
                f"Metrics cannot be written to {path}: {error.strerror or error}.",
                "Name a file in a folder that this user may write: --metrics.",
            ) from None


_METRICS = {
    "modeldrop_cache_hits_total": ("counter", "Fetches that found everything on the disk."),
    "modeldrop_channel_generation": ("gauge", "Generation of the channel: one more with each of its moves."),
    "modeldrop_fetch_bytes_total": (
        "counter",
        "Bytes of snapshots by where they came from: the registry, an earlier attempt on the disk, other snapshots.",
    ),
    "modeldrop_fetch_failures_total": ("counter", "Fetches that failed."),
    "modeldrop_fetch_retries_total": ("counter", "Requests to the registry that were made again."),
    "modeldrop_fetch_seconds": ("gauge", "Duration of the last fetch that succeeded."),
    "modeldrop_fetch_success": ("gauge", "Whether the last fetch succeeded: 1 or 0."),
    "modeldrop_fetches_total": ("counter", "Fetches, failed ones included."),
    "modeldrop_information_age_seconds": ("gauge", "Time since the registry last said what the channel names."),
    "modeldrop_last_fetch_timestamp_seconds": ("gauge", "When the last fetch ended, well or not."),
    "modeldrop_last_success_timestamp_seconds": ("gauge", "When the last fetch that succeeded ended."),
    "modeldrop_model_info": ("gauge", "What is in use, as labels; always 1."),
    "modeldrop_model_version": ("gauge", "Number of the version in use."),
}


def _samples(
    model: str, channel: str, one: ReferenceMetrics, now: float
) -> Iterator[tuple[str, Sequence[tuple[str, str]], float]]:
    """Name, labels and value of all that is known of one reference."""
    labels = (("model", model), ("channel", channel))
    stats = one.stats
    sources = {"registry": stats.fetched, "disk": stats.adopted, "linked": stats.linked, "delta": stats.saved}
    for source, count in sources.items():
        yield "modeldrop_fetch_bytes_total", (*labels, ("source", source)), count
    yield "modeldrop_fetches_total", labels, one.attempts
    yield "modeldrop_fetch_failures_total", labels, one.failures
    yield "modeldrop_fetch_retries_total", labels, one.stats.retries
    yield "modeldrop_cache_hits_total", labels, one.hits
    yield "modeldrop_fetch_success", labels, one.succeeded
    yield "modeldrop_last_fetch_timestamp_seconds", labels, one.tried
    snapshot = one.snapshot
    if snapshot is None:
        return
    yield "modeldrop_fetch_seconds", labels, snapshot.figures.seconds
    yield "modeldrop_last_success_timestamp_seconds", labels, one.at
    yield "modeldrop_model_version", labels, snapshot.version
    what = (("version", f"v{snapshot.version}"), ("variant", snapshot.variant), ("digest", snapshot.digest))
    yield "modeldrop_model_info", (*labels, *what), 1
    if snapshot.channel is not None:
        # Not known is older than any limit: whoever is told of what is old is told of it.
        age = math.inf if snapshot.age is None else max(0.0, snapshot.age + now - one.at)
        yield "modeldrop_information_age_seconds", labels, age
    if snapshot.generation is not None:
        yield "modeldrop_channel_generation", labels, snapshot.generation


def _labels(labels: Sequence[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
