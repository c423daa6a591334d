from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from modeldrop import config
from modeldrop.commands.fetch_options import ENVIRONMENT, add_fetch_options, fetch_settings
from modeldrop.config import SETTINGS, load_config_file, setting
from modeldrop.errors import UsageError
from modeldrop.fetcher.options import Options

SOURCE = Path(config.__file__).parent
# What modeldrop tells programs that it starts, what its action passes from one step to the next, and the variables of a
# repository that `init` has its workflow read.
TOLD = re.compile(
    r"MODELDROP_(NEW|CURRENT)(_|$)|MODELDROP_MODEL|MODELDROP_(PATH|VERSION|GENERATION|PREVIOUS_PATH|CHANNEL|PROVIDER)$"
)


def arguments(*words: str) -> Namespace:
    parser = ArgumentParser()
    add_fetch_options(parser)
    return parser.parse_args(["embedder", *words])


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for known in SETTINGS.values():
        if known.variable:
            monkeypatch.delenv(known.variable, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_table_has_every_variable_that_is_read() -> None:
    read = {
        name
        for path in SOURCE.rglob("*.py")
        if "action" not in path.parts
        for name in re.findall(r"MODELDROP_[A-Z_]*[A-Z]", path.read_text("utf-8"))
    }
    assert {name for name in read if not TOLD.match(name)} == {one.variable for one in SETTINGS.values()} - {""}


def test_the_table_has_every_variable_that_the_help_tells_of() -> None:
    optional = {one.variable for one in SETTINGS.values() if one.option and one.variable}
    assert set(re.findall(r"MODELDROP_\w+", ENVIRONMENT)) == optional


def test_an_option_counts_before_its_variable_and_that_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch_settings(arguments()).options == Options()
    monkeypatch.setenv("MODELDROP_TIMEOUT", "5m")
    assert fetch_settings(arguments()).options.timeout == 300
    assert fetch_settings(arguments("--timeout", "10s")).options.timeout == 10
    monkeypatch.setenv("MODELDROP_TIMEOUT", "")
    assert fetch_settings(arguments()).options == Options()


def test_a_wrong_value_is_told_with_the_place_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--timeout 'x' is not a duration"):
        setting("timeout", "x")
    monkeypatch.setenv("MODELDROP_ON_UNAVAILABLE", "hope")
    with pytest.raises(UsageError, match="MODELDROP_ON_UNAVAILABLE cannot be 'hope'"):
        setting("on_unavailable")


def test_the_file_is_read_once_and_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "modeldrop.toml"
    assert not load_config_file().registries
    file.write_text('[registries.a]\nurl = "./a"\n')
    first = load_config_file()
    assert first.registries["a"].url == str(tmp_path / "a")
    assert load_config_file() is first
    file.write_text('[registries.abc]\nurl = "./abc"\n')
    assert list(load_config_file().registries) == ["abc"]
    file.unlink()
    assert not load_config_file().registries
