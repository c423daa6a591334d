"""The same recipe and source give the same bytes, whoever builds them where and when."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modeldrop.export.models.family import TOKENS
from modeldrop.format.manifest import Manifest, parse_manifest
from tests.export.foreign_environment import foreign_environment
from tests.export.recipes import loosened
from tests.helpers.builds import tree
from tests.helpers.checkpoints import t5
from tests.helpers.command_line import build_here, modeldrop

pytestmark = pytest.mark.heavy

VARIANTS = ("fp16", "int8-accurate", "int8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A translator, whose merged decoder is what libraries do not write alike; built twice."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there, far away")
    t5(here / "source")
    recipe = loosened(here, TOKENS, VARIANTS)
    first = modeldrop("build", here / "source", "-o", here / "out", "--recipe", recipe)
    assert first.code == 0, first.err
    with foreign_environment(there) as environment:
        shutil.copytree(here / "source", there / "another name")
        (there / "recipe.toml").write_bytes(recipe.read_bytes())
        arguments = ("another name", "-o", "out", "--recipe", "recipe.toml")
        second = modeldrop("build", f"./{arguments[0]}", *arguments[1:], cwd=there, environment=environment)
    assert second.code == 0, second.err
    return here / "out", there / "out"


def manifest(folder: Path) -> Manifest:
    return parse_manifest((folder / "manifest.json").read_bytes())


def test_every_file_has_the_same_bytes(built: tuple[Path, Path]) -> None:
    first, second = (manifest(folder) for folder in built)
    assert first.files == second.files
    assert {path.rpartition("/")[2] for path in first.variants[0].graphs.values()} >= {"decoder_model_merged.onnx"}
    for file in first.files:
        assert (built[0] / file.path).read_bytes() == (built[1] / file.path).read_bytes(), file.path


def test_nothing_but_what_was_measured_differs_in_the_manifest(built: tuple[Path, Path]) -> None:
    first, second = (_unmeasured(json.loads((folder / "manifest.json").read_text("utf-8"))) for folder in built)
    assert first == second


def test_who_may_read_it_does_not_depend_on_who_built_it(built: tuple[Path, Path]) -> None:
    for folder in built:
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
        assert set(modes.values()) == {0o644}, modes


def test_building_again_writes_nothing(built: tuple[Path, Path]) -> None:
    folder = built[0].parent
    before = tree(folder)
    again = build_here(folder / "source", built[0], "--recipe", folder / "loose.toml", "--json")
    assert (again.code, again.json["built"]) == (0, False)
    assert tree(folder) == before


def _unmeasured(value: Any) -> Any:
    """A manifest's plain values without times, and with figures as far as they are the same with more threads."""
    if isinstance(value, dict):
        return {name: _unmeasured(item) for name, item in value.items() if name not in {"speed", "created"}}
    if isinstance(value, list):
        return [_unmeasured(item) for item in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
