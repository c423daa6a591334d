"""What this disk knows of a channel: what it named when the registry was last asked, and when that was.

One small file beside each link, ``.state/<link>.json``; its time of change is when the registry last confirmed it. It
is written after the link: whoever is killed in between knows a little less than there is, and asks again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.fetcher.small_files import read_note, write_note
from modeldrop.format.names import DIGEST
from modeldrop.util.values import asdict, dataclass, replace

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = ".state"


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel as it was last seen.

    Attributes:
        version: number of the version it named.
        digest: that version's manifest digest.
        generation: its generation.
        nonce: of its present move.
        variant: the variant that was fetched.
        snapshot: name of the snapshot's folder.
        checked: when the registry last said so, in Unix seconds.
        settled: what the choice of that snapshot rested on; "" where it was not written down.
    """

    version: int
    digest: str
    generation: int
    nonce: str
    variant: str
    snapshot: str
    checked: float
    settled: str = ""


def state_path(model_home: Path, link: str) -> Path:
    """Where the state of the channel behind a link is kept."""
    return model_home / _FOLDER / f"{link}.json"


def read_state(model_home: Path, link: str) -> ChannelState | None:
    """What is known of the channel behind a link; None where nothing is, or it cannot be read."""
    try:
        found, checked = read_note(state_path(model_home, link), "channel state")
        return ChannelState(
            version=found.integer("version", low=1, high=1 << 53),
            digest=found.text("digest", pattern=DIGEST),
            generation=found.integer("generation", low=1, high=1 << 53),
            nonce=found.text("nonce", limit=64),
            variant=found.text("variant", limit=128),
            snapshot=found.text("snapshot", limit=255),
            checked=checked,
            settled=found.text("settled", default="", limit=256),
        )
    except (OSError, FormatError):
        return None


def write_state(model_home: Path, link: str, state: ChannelState) -> None:
    """Remember what a channel names, at ``state.checked``. Best effort: a volume may be read-only."""
    values = {name: value for name, value in asdict(state).items() if name != "checked"}
    write_note(state_path(model_home, link), values, state.checked)


def confirm_state(model_home: Path, link: str, checked: float) -> None:
    """Remember that the registry still said the same at ``checked``, in Unix seconds. Best effort, too."""
    with contextlib.suppress(OSError):
        os.utime(state_path(model_home, link), (checked, checked))


def is_same(one: ChannelState | None, other: ChannelState) -> bool:
    """Whether two states say the same, whenever they were confirmed."""
    return one is not None and replace(one, checked=other.checked) == other
