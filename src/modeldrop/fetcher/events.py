"""Events of a fetch: for people a sentence each, for programs the same as plain values."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import ago_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.errors import ModeldropError
    from modeldrop.fetcher.snapshot import Snapshot

START = "start"
PROGRESS = "progress"
WARNING = "warning"
DONE = "done"
ERROR = "error"
_URGENT = {WARNING, ERROR, "unavailable", "quarantined", "hook-failed"}  # the last three are a watch's
_WORTH_A_RATE = 10_000_000


_NO_FIELDS: Mapping[str, object] = MappingProxyType({})


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        name: ``start``, ``progress``, ``warning``, ``done`` or ``error`` of a fetch; a watch has more of them.
        model: the model's name, or "" where no single one is meant.
        text: a sentence for people; "" for what only programs care about.
        fields: the same in plain values, which JSON can hold.
    """

    name: str
    model: str
    text: str = ""
    fields: Mapping[str, object] = _NO_FIELDS

    @property
    def urgent(self) -> bool:
        """Whether it is shown even with ``--quiet``."""
        return self.name in _URGENT


def started(model: str, reference: str) -> Event:
    """A fetch begins."""
    return Event(START, model, fields={"reference": reference})


def progressed(model: str, done: int, total: int, rate: float) -> Event:
    """Bytes have come. ``rate``: bytes per second."""
    return Event(PROGRESS, model, "", {"bytes": done, "total": total, "bytes_per_second": round(rate)})


def warned(model: str, text: str) -> Event:
    """Something that whoever runs this should know, although it goes on."""
    return Event(WARNING, model, f"modeldrop: warning: {f'{model}: ' if model else ''}{text}", {"message": text})


def failed_event(model: str, error: ModeldropError) -> Event:
    """An expected failure."""
    fields = {"error": type(error).__name__, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return Event(ERROR, model, f"modeldrop: {error}", fields)


def done(snapshot: Snapshot) -> Event:
    """A fetch has ended well."""
    figures = snapshot.figures
    return Event(
        DONE,
        snapshot.model,
        f"{snapshot.model} v{snapshot.version} {snapshot.variant}: {_outcome(snapshot)}",
        {
            "version": snapshot.version,
            "variant": snapshot.variant,
            "digest": snapshot.digest,
            "registry": snapshot.registry,
            "channel": snapshot.channel,
            "generation": snapshot.generation,
            "path": str(snapshot.path),
            "bytes": figures.fetched,
            "adopted_bytes": figures.adopted,
            "linked_bytes": figures.linked,
            "saved_bytes": figures.saved,
            "retries": figures.retries,
            "seconds": round(figures.seconds, 3),
            "age": None if snapshot.age is None else round(snapshot.age, 3),
            "checked": snapshot.checked,
        },
    )


def json_line(event: Event) -> str:
    """The event as one line of JSON, without what could be a secret."""
    import json

    at = time.time()
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    line = {"time": f"{clock}.{int(at % 1 * 1000):03}Z", "event": event.name}
    if event.model:
        line["model"] = event.model
    # ASCII only: a stream that cannot write a letter would put something in its place that is no JSON.
    return json.dumps(line | {name: _clean(value) for name, value in event.fields.items()})


def _clean(value: object) -> object:
    if not isinstance(value, str):
        return value
    from modeldrop.storage.errors import redact

    return redact(value)


def _outcome(snapshot: Snapshot) -> str:
    figures = snapshot.figures
    came = []
    if figures.fetched:
        rate = ""
        if figures.fetched >= _WORTH_A_RATE and figures.seconds > 0:
            rate = f" in {figures.seconds:.1f} s ({figures.fetched / figures.seconds / 1e6:.1f} MB/s)"
        came.append(f"{figures.fetched / 1e6:.1f} MB fetched and verified{rate}")
    if figures.saved:
        came.append(f"{figures.saved / 1e6:.1f} MB saved by deltas")
    if figures.adopted:
        came.append(f"{figures.adopted / 1e6:.1f} MB were left by an earlier attempt")
    if figures.linked:
        came.append(f"{figures.linked / 1e6:.1f} MB shared with other versions")
    text = ", ".join(came) or "already there"
    if snapshot.channel is not None and snapshot.checked == "disk":
        text += f"; {snapshot.channel} as it was {ago_text(snapshot.age)}"
    return text
