from __future__ import annotations

from pathlib import Path

import pytest

from modeldrop.config import default_registry, load_config_file, registry_settings
from modeldrop.errors import RecipeError, UsageError
from modeldrop.fetcher.fetch import fetch
from modeldrop.model_settings import read_models, registries_of
from tests.helpers.builds import publish_build, publisher_environment
from tests.helpers.command_line import modeldrop

__all__ = ["publisher_environment"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A modeldrop.toml in a folder that is not the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "deploy"
    folder.mkdir()
    path = folder / "modeldrop.toml"
    path.write_text(
        '[registries.team]\nurl = "./models"\n[registries.prod]\nurl = "s3://acme-models"\nregion = "eu-west-1"\n'
    )
    return path


def test_the_file_is_the_one_here_or_the_one_that_is_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'prod' is not the name of a registry"):
        registry_settings("prod")
    monkeypatch.setenv("MODELDROP_CONFIG", "deploy/modeldrop.toml")
    assert registry_settings("prod").region == "eu-west-1"
    assert registry_settings("s3://acme-models").region == "eu-west-1"
    monkeypatch.delenv("MODELDROP_CONFIG")
    monkeypatch.chdir(config.parent)
    assert registry_settings("prod").region == "eu-west-1"


def test_a_file_that_is_named_and_not_there_is_an_error(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_CONFIG", "nowhere.toml")
    with pytest.raises(RecipeError, match=r"MODELDROP_CONFIG names nowhere\.toml, which is not there"):
        registry_settings("prod")
    config.write_bytes(b"\xff")
    monkeypatch.setenv("MODELDROP_CONFIG", str(config))
    with pytest.raises(RecipeError, match=r"modeldrop\.toml cannot be read: it is not UTF-8"):
        registry_settings("prod")


def test_folders_are_relative_to_the_file_and_the_default_may_be_a_name(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDROP_CONFIG", str(config))
    monkeypatch.setenv("MODELDROP_REGISTRY", "team")
    assert default_registry() == str(config.parent / "models")
    publish_build(config.parent / "models", "a")
    assert fetch("embedder", config.parent / "home").version == 1
    listed = modeldrop("ls")
    assert (listed.code, listed.out.splitlines()[1].split()[0]) == (0, "embedder")
    shown = modeldrop("show", "embedder@v1", "--json")
    assert shown.code == 0


def test_a_wrong_file_stops_every_command_with_its_own_code(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("[registries.team]\nurl = './models'\nsecret = 'x'\n")
    result = modeldrop("ls", "./models", environment={"MODELDROP_CONFIG": str(config)})
    assert result.code == 3
    assert "registries.team.secret: unknown key" in result.err
    assert "Traceback" not in result.err


def test_the_registry_of_a_model_is_its_own_the_default_or_the_only_one(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDROP_CONFIG", str(config))
    config.write_text(config.read_text() + '[models.a]\nsource = "a/b"\nregistry = ["team", "./x", "gs://acme"]\n')

    def registries(name: str) -> tuple[str, ...]:
        settings = load_config_file()
        return registries_of(read_models(settings)[name], settings)

    folder = config.parent
    assert registries("a") == (str(folder / "models"), str(folder / "x"), "gs://acme")
    config.write_text(config.read_text() + '[models.b]\nsource = "a/b"\n[models.c]\nsource = "a/b"\nregistry = "pro"\n')
    with pytest.raises(UsageError, match=r"says no registry for the model b\.\n.*\[models\.b\]"):
        registries("b")
    with pytest.raises(UsageError, match="'pro' is not the name of a registry"):
        registries("c")
    monkeypatch.setenv("MODELDROP_REGISTRY", "prod")
    assert registries("b") == ("s3://acme-models",)
    monkeypatch.delenv("MODELDROP_REGISTRY")
    config.write_text('[registries.only]\nurl = "./here"\n[models.b]\nsource = "a/b"\n')
    assert registries("b") == (str(folder / "here"),)
