"""A watch whose registry was restored from an older copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modeldrop.registry.channels import promote
from modeldrop.storage.write import open_store
from tests.fetcher.watch.watch_setup import WatchSetup, version


@pytest.mark.parametrize("accept", [False, True])
def test_it_is_followed_once_it_is_accepted(watch_setup: WatchSetup, accept: bool) -> None:
    watch_setup.publish("a")
    backup = watch_setup.folder / "backup"
    shutil.copytree(watch_setup.registry, backup)
    watch_setup.publish("b")
    follower = watch_setup.follower(accept_older_generation=accept)
    assert follower.poll()
    shutil.rmtree(watch_setup.registry)
    backup.rename(Path(watch_setup.registry))
    assert follower.poll() == accept
    assert version(follower) == watch_setup.link() == (1 if accept else 2)
    store = open_store(watch_setup.registry)
    promote(store, "embedder", 1, "current", by="dana", generation_above=0 if accept else 2)
    assert follower.poll()
    assert version(follower) == watch_setup.link() == 1
    assert follower.snapshot is not None
    assert follower.snapshot.generation == (1 if accept else 3)
    assert watch_setup.app.log == ["nothing to v2", "v2 to v1"]
