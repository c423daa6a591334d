"""Telling is at least once, whatever ends a watch at whichever moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.fetcher.fetch import fetch
from tests.helpers.rounds import rounds
from tests.helpers.watch_crashes import run_crashes

if TYPE_CHECKING:
    from tests.fetcher.watch.watch_setup import WatchSetup

STRIDE = 40 // rounds(1, 2)
LANES = rounds(1, STRIDE)
"""``make soak`` kills a watch before every change of the disk, ``make test`` before every fortieth."""

pytestmark = [pytest.mark.rounds, pytest.mark.slow]


@pytest.mark.parametrize("refuse", ["", "2"], ids=["taken", "refused"])
def test_hooks_hear_last_what_is_in_use(refuse: str, watch_setup: WatchSetup) -> None:
    for seed in "abc":
        watch_setup.publish(seed)
    reference = f"{watch_setup.registry}/embedder"
    # All are on the disk, so that nearly every change of it is one of the watch itself.
    for version in (2, 3, 1):
        fetch(f"{reference}@v{version}", watch_setup.home)
    watch_setup.promote(1)
    assert watch_setup.follower(resume=True).poll()
    assert watch_setup.app.log == ["nothing to v1"]
    watch_setup.promote(2)
    each = "all" if LANES == STRIDE else "some"
    for first in range(LANES + 1):
        scratch = watch_setup.folder / f"scratch-{first}"
        found = run_crashes(reference, watch_setup.home, scratch, refuse, first, STRIDE, each)
        assert found["wrong"] == []
        assert found["kills"] > 1
