from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.cli import main
from modeldrop.config import parse_config
from modeldrop.errors import RecipeError
from modeldrop.publishing.request import requests_of
from modeldrop.registry.deltas import read_delta_index
from modeldrop.storage.write import open_store
from tests.helpers.builds import digest_of
from tests.helpers.delta_builds import GRAPH, SIZE, small_files_count, weights
from tests.helpers.publisher import MODEL, Publisher

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def updates(publisher: Publisher, registry: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """Whoever has published v1, and has builds a and b, which differ little."""
    small_files_count(monkeypatch)
    publisher.own = {seed: {GRAPH: weights(number)} for number, seed in enumerate("ab")}
    publisher.publish("a", str(registry))
    return publisher


def test_publish_stores_deltas_and_show_tells_of_them(
    updates: Publisher, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    updates.publish("b", str(registry))
    index = read_delta_index(open_store(str(registry)), MODEL, 2)
    assert index is not None
    (base,) = index.bases
    assert (base.manifest, [file.path for file in base.files]) == (digest_of(registry, 1), [GRAPH])
    assert base.size < 0.1 * SIZE
    assert main(["show", f"{registry}/{MODEL}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deltas"] == [{"base": base.manifest, "bytes": base.size}]
    assert main(["show", f"{registry}/{MODEL}"]) == 0
    assert "from v1" in capsys.readouterr().out
    assert main(["show", f"{registry}/{MODEL}@v1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deltas"] == []


def test_none_are_stored_where_none_are_wanted(updates: Publisher, registry: Path) -> None:
    updates.publish("b", str(registry), deltas=0)
    assert read_delta_index(open_store(str(registry)), MODEL, 2) is None


def test_what_goes_wrong_with_them_is_a_warning(
    updates: Publisher, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (registry / MODEL / "v1" / GRAPH).unlink()
    (published,) = updates.publish("b", str(registry))
    assert (published.version.number, published.channel and published.channel.after) == (2, 2)
    assert capsys.readouterr().err.startswith("modeldrop: warning: no deltas: from v1: ")


@pytest.mark.parametrize(("line", "deltas"), [("", 2), ("deltas = 0", 0), ("deltas = 16", 16)])
def test_a_model_of_the_file_says_from_how_many(line: str, deltas: int) -> None:
    (request,) = requests_of(parse_config(f'[models.m]\nsource = "a/b"\nregistry = "s3://b/m"\n{line}\n'))
    assert request.deltas == deltas
    assert request.recipe.to_json() == {}  # the build key knows nothing of it


@pytest.mark.parametrize("value", ["-1", "17", "true", '"two"'])
def test_what_is_no_number_of_them_is_refused(value: str) -> None:
    with pytest.raises(RecipeError, match="deltas"):
        requests_of(parse_config(f'[models.m]\nsource = "a/b"\nregistry = "s3://b/m"\ndeltas = {value}\n'))


@pytest.mark.parametrize("options", [["--deltas", "17"], ["--deltas", "-1"], ["--deltas", "few"]])
def test_an_option_that_is_no_number_of_them_is_refused(options: list[str], capsys: pytest.CaptureFixture[Any]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["publish", "a/b", "./models/m", *options])
    assert ended.value.code == 2
    assert "--deltas" in capsys.readouterr().err
