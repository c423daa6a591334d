"""What this disk has of a channel when the registry gives no answer that could be used, and whether that will do.

Loaded only in trouble: a fetch that is answered needs none of it.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError, ModeldropError, RefusedError, RegistryError
from modeldrop.fetcher.home import read_link
from modeldrop.fetcher.options import FAIL, OFFLINE
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import age_text

if TYPE_CHECKING:
    from modeldrop.fetcher.home import ModelHome
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.options import Options


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
    def age(self) -> float:
        """Seconds since the registry last said so."""
        return max(0.0, time.time() - self.checked)


def last_good(
    home: ModelHome, link: str | None, state: ChannelState | None, options: Options, error: ModeldropError
) -> LastGood:
    """The snapshot to use instead of what could not be had.

    Args:
        home: the model's folder.
        link: the name of the channel's link; None for a pinned version, which has no last good one.
        state: what this disk knows of the channel.
        options: of the fetch.
        error: why there is no other.

    Raises:
        RegistryError: there is none, or it is older than ``max_stale``.
        ModeldropError: ``error``, where there is none that would do.
    """
    if link is None or options.on_unavailable == FAIL:
        raise error
    found = _find(home, link, state, options.as_name)
    if found is None and options.on_unavailable == OFFLINE:
        raise RegistryError(
            f"{home.path} has no snapshot of {link}, and offline nothing is fetched.",
            "Fetch it once with the registry at hand.",
        )
    if found is None or (found.generation or 0) < options.min_generation:
        raise error
    age, limit = found.age, options.max_stale
    if limit is not None and age > limit:
        raise RegistryError(
            f"{found.local.path.name} is on this disk, but the registry last confirmed it {age_text(age)} ago; "
            f"at most {age_text(limit)} are allowed. {error.message}",
            error.hint,
        ) from error
    return found


def old_pointer(where: str, generation: int, minimum: int, stored: ChannelState | None) -> ModeldropError:
    """The error for a channel that says something older than it must.

    Args:
        where: its address.
        generation: its generation now.
        minimum: the generation that it must have at least.
        stored: what this disk knows of the channel.
    """
    if stored is None or generation < minimum:
        return RefusedError(
            f"{where} has generation {generation}, below the required {minimum}: an old pointer was replayed.",
            "Look at the registry: modeldrop history. To accept it, ask for a lower --min-generation.",
        )
    return RegistryError(
        f"{where} went back from generation {stored.generation} to {generation}."
        if generation < stored.generation
        else f"{where} has another move under generation {generation} than this disk has seen.",
        "The registry was restored from an older copy, or an old pointer is replayed. To accept what it says now, "
        "move it on: modeldrop promote; or remove this model's folder.",
    )


def _find(home: ModelHome, link: str, state: ChannelState | None, as_name: str) -> LastGood | None:
    if state is not None:
        local = home.find(state.version, state.digest, state.variant, as_name=as_name)
        return None if local is None else LastGood(local, state.generation, state.checked)
    # Written by a release that kept no state, or on a volume that became read-only.
    with contextlib.suppress(OSError, FormatError):
        path = home.path / link
        linked = LocalSnapshot(path.with_name(read_link(path)))
        local = home.find(linked.version, linked.digest, linked.variant, as_name=as_name)
        if local is not None and local.path == linked.path:
            return LastGood(local, None, path.lstat().st_mtime)
    return None
