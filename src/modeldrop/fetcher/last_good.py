"""What this disk has of a channel when the registry gives no answer that could be used, and whether that will do.

Loaded only in trouble: a fetch that is answered needs none of it.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError, ModeldropError, NotFoundError, RefusedError, RegistryError, TrustError
from modeldrop.fetcher.home import read_link
from modeldrop.fetcher.notes import MAX_NUMBER, MAX_TEXT, age_of, note_path, read_note, write_note
from modeldrop.fetcher.options import FAIL, OFFLINE
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.format.channel import REMOVED
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import age_text, ago_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.fetcher.home import ModelHome
    from modeldrop.fetcher.layout import Layout
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.options import Options
    from modeldrop.fetcher.resolve import ResolvedVersion


_FALLBACK = ".fallback"


class Fallback(NamedTuple):
    """That the last good version is in use, for want of a newer one.

    Attributes:
        error: why there was none, when one was last tried for.
        unreachable: whether that is because the registry could not be read.
        since: when that was first so, in Unix seconds.
    """

    error: str
    unreachable: bool
    since: float


class LastGood(NamedTuple):
    """The last snapshot that a channel gave here.

    Attributes:
        local: the snapshot, whole.
        generation: the channel's then, None where it is not known.
        checked: when the registry last said that the channel names it, in Unix seconds.
    """

    local: LocalSnapshot
    generation: int | None
    checked: float

    @property
    def age(self) -> float | None:
        """Seconds since the registry last said so, None where that is not known."""
        return age_of(self.checked)


def read_fallback(model_home: Path, link: str, checked: float) -> Fallback | None:
    """The fallback that is noted; None where the registry has answered since, at ``checked``."""
    with contextlib.suppress(OSError, FormatError):
        found, _ = read_note(note_path(model_home, _FALLBACK, link), "fallback")
        since = found.integer("since_ms", low=0, high=MAX_NUMBER) / 1000
        if since > checked:
            return Fallback(found.text("error", limit=2 * MAX_TEXT), found.boolean("unreachable"), since)
    return None


def note_fallback(model_home: Path, link: str, error: ModeldropError, checked: float) -> None:
    """Note that the last good version is used, which the registry last confirmed at ``checked``."""
    earlier = read_fallback(model_home, link, checked)
    values = {
        "error": error.message[:MAX_TEXT],
        "unreachable": isinstance(error, RegistryError),
        "since_ms": int(1000 * (earlier.since if earlier else time.time())),
    }
    write_note(note_path(model_home, _FALLBACK, link), values)


def last_good(
    home: ModelHome,
    link: str | None,
    state: ChannelState | None,
    options: Options,
    error: ModeldropError,
    trusts: Callable[[LocalSnapshot], bool],
) -> LastGood:
    """The snapshot to use instead of what could not be had.

    Args:
        home: the model's folder.
        link: the name of the channel's link; None for a pinned version, which has no last good one.
        state: what this disk knows of the channel.
        options: of the fetch.
        error: why there is no other.
        trusts: whether a snapshot was verified under the keys that are trusted, and the attestation that is wanted.

    Raises:
        RegistryError: there is none, or it is older than ``max_stale``.
        TrustError: there is one, which was not verified so.
        ModeldropError: ``error``, where there is none that would do.
    """
    if link is None or options.on_unavailable == FAIL:
        raise error
    found = _find(home, link, state, options.layout)
    if found is None and options.on_unavailable == OFFLINE:
        raise RegistryError(
            f"{home.path} has no snapshot of {link}, and offline nothing is fetched.",
            "Fetch it once with the registry at hand.",
        )
    if found is None or (found.generation or 0) < options.min_generation:
        raise error
    if not trusts(found.local):
        raise TrustError(
            f"{found.local.path.name} is on this disk, but was not verified under the keys that are trusted, or the "
            f"attestation that is wanted. "
            f"{error.message}",
            error.hint or "Fetch once with the registry at hand: then it is verified, and remembered as that.",
        ) from error
    age, limit = found.age, options.max_stale
    if limit is not None and (age is None or age > limit):
        raise RegistryError(
            f"{found.local.path.name} is on this disk, but the registry last confirmed it {ago_text(age)}; "
            f"at most {age_text(limit)} are allowed. {error.message}",
            error.hint,
        ) from error
    return found


def not_a_channel(model: str, channel: str, data: bytes, error: FormatError) -> ModeldropError:
    """The error for an answer that is no channel, saying what it is instead.

    Args:
        model: the model's address.
        channel: the channel.
        data: the answer.
        error: why it does not parse.
    """
    kind, where = _kind(data), f"{model}/{channel}"
    if data == REMOVED:
        return NotFoundError(
            f"{where} is no channel any more: its only move was taken back.", f"Make it: {_promote(model, channel)}"
        )
    return FormatError(
        f"{where} is no channel, but {kind}." if kind else f"{where}: {error.message}",
        error.hint
        or "Somebody else answers for the registry (a proxy, a sign-in page), or the object was damaged: then restore "
        f"it from a copy; or remove it, and name a version anew: {_promote(model, channel)}",
    )


def _promote(model: str, channel: str, version: str = "vN", more: str = "") -> str:
    return f"modeldrop promote {model}@{version}{more}" + (
        "" if channel == DEFAULT_CHANNEL else f" --channel {channel}"
    )


def _kind(data: bytes) -> str:
    """What an answer is that is not JSON, in words; "" where it may be."""
    start = data.lstrip()[:1000]
    if not start:
        return "an empty answer"
    if start.startswith(b"\x1f\x8b"):
        return "gzip-compressed data"
    if not start.startswith(b"<"):
        return ""
    title = re.search(rb"<title[^>]*>([^<]*)", data[:10_000], re.IGNORECASE)
    text = " ".join(title[1].decode(errors="replace").split())[:80] if title else ""
    what = "an HTML page" if b"<html" in start.lower() or title else "XML"
    return f"{what}, titled {text!r}" if text else what


def old_pointer(
    model: str, channel: str, version: ResolvedVersion, minimum: int, stored: ChannelState | None
) -> ModeldropError:
    """The error for a channel that says something older than it must.

    Args:
        model: the model's address, such as ``s3://acme-models/embedder``.
        channel: the channel.
        version: what it names now.
        minimum: the generation that it must have at least.
        stored: what this disk knows of the channel.
    """
    where, generation = f"{model}/{channel}", version.generation or 0
    if stored is None or generation < minimum:
        return RefusedError(
            f"{where} has generation {generation}, below the required {minimum}: somebody has put an older state back.",
            f"Look at the registry: modeldrop history {model}. To accept it, ask for a lower --min-generation.",
        )
    promote = _promote(model, channel, f"v{version.version}", f" --generation-above {stored.generation}")
    return RegistryError(
        f"{where} went back from generation {stored.generation} to {generation}."
        if generation < stored.generation
        else f"{where} has another move under generation {generation} than this disk has seen.",
        "The registry was rebuilt or restored from an older copy, or an old pointer is replayed. If it is right, one "
        f"command brings all readers forward: {promote}; "
        "or accept it here alone: --accept-older-generation.",
    )


def _find(home: ModelHome, link: str, state: ChannelState | None, layout: Layout) -> LastGood | None:
    if state is not None:
        local = home.find(state.version, state.digest, state.variant, layout=layout)
        return None if local is None else LastGood(local, state.generation, state.checked)
    # Written by a release that kept no state, or on a volume that became read-only.
    with contextlib.suppress(OSError, FormatError):
        path = home.path / link
        linked = LocalSnapshot(path.parent / read_link(path))
        local = home.find(linked.version, linked.digest, linked.variant, layout=layout)
        if local is not None and local.path == linked.path:
            return LastGood(local, None, path.lstat().st_mtime)
    return None
