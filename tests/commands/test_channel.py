from __future__ import annotations

import json
from pathlib import Path

import pytest

from modeldrop.errors import NotFoundError
from modeldrop.registry.channels import promote, remove
from modeldrop.registry.versions import read_channel
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_build, publish_folder
from tests.helpers.command_line import ran_here


def test_a_channel_is_removed_and_can_be_made_again(any_registry: str, tmp_path: Path) -> None:
    store = open_store(any_registry)
    for number, seed in enumerate("ab", 1):
        make_build(tmp_path / seed, seed)
        assert publish_folder(store, "embedder", tmp_path / seed).version.number == number
        promote(store, "embedder", number, "pr-17", by="dana")
    assert remove(store, "embedder", "pr-17").version == 2
    assert read_channel(store, "embedder", "pr-17")[0] is None
    with pytest.raises(NotFoundError):
        remove(store, "embedder", "pr-17")
    assert promote(store, "embedder", 1, "pr-17", by="dana").after == 1


def test_of_one_model_or_of_all_that_have_it(registry: Path) -> None:
    for model, channel in (("a", "pr-17"), ("b", "current"), ("c", "pr-17"), ("d", "pr-17")):
        publish_build(registry, model=model, channel=channel)
    ran = ran_here("channel", "rm", f"{registry}/d", "--channel", "pr-17")
    assert (ran.code, ran.out) == (0, "d@pr-17: removed, it named v1\n")
    ran = ran_here("channel", "rm", str(registry), "--channel", "pr-17", "--json")
    assert json.loads(ran.out) == [{"model": name, "channel": "pr-17", "named": 1} for name in ("a", "c")]
    ran = ran_here("channel", "rm", str(registry), "--channel", "pr-17")
    assert (ran.code, ran.out) == (0, "nothing\n")
    assert ran_here("channel", "rm", f"{registry}/d", "--channel", "pr-17").code == NotFoundError.exit_code
    ran = ran_here("channel", "rm", str(registry), "--channel", "current")
    assert (ran.code, "not removed" in ran.err) == (17, True)
    assert ran_here("ls", str(registry)).code == 0
