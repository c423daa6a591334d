"""Bad input is refused before slow work: no exporter is started, nothing is written."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from modeldrop.cli import main
from tests.helpers.checkpoints import bert
from tests.helpers.command_line import modeldrop, ran_here


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--task", "text-classification"], 8, "no weights for text-classification"),
        (["--task", "telepathy"], 3, "is not a task this release builds"),
        (["--variants", "fp32,int7"], 3, "variants[1]: 'int7' is not a variant"),
        (["--variants", ""], 3, "is not a variant"),
        (["--variants", "fp32,fp32"], 3, "named twice"),
        (["--recipe", "missing.toml"], 3, "cannot be read"),
        (["--texts", "missing.txt"], 3, "cannot be read"),
        (["--max-length", "2"], 3, "max_length: 2 is not between"),
        (["--channel", "v7"], 2, "cannot name a channel"),
    ],
)
def test_arguments(encoder: Path, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    ran = ran_here("publish", encoder, "./registry/m", *arguments, cwd=tmp_path)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("varients = ['fp32']", "varients: unknown key"),
        ("variants = 'fp32'", "variants: must be a list"),
        ("[thresholds.int7]\ncosine_min = 1.0", "thresholds.int7: is not a variant"),
        ("[thresholds.int8]\ncosine = 1.0", "thresholds.int8.cosine: is not a metric"),
        ("task = 7", "task: must be a string"),
        ("= nonsense", "is not TOML"),
    ],
)
def test_recipes(encoder: Path, tmp_path: Path, text: str, said: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    ran = ran_here("publish", encoder, tmp_path / "registry/m", "--recipe", recipe)
    assert (ran.code, said in ran.err, str(recipe) in ran.err) == (3, True, True), ran.err
    assert not (tmp_path / "registry").exists()


def test_vectors_are_cut_of_embedders_alone(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("truncate_dim = 8\n")
    ran = ran_here("plan", encoder, tmp_path / "registry/m", "--recipe", tmp_path / "recipe.toml")
    assert ran.code == 3
    assert "truncate_dim: cuts vectors of embedders that modules.json describes" in ran.err


def test_missing_and_truncated_weights(encoder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(encoder, source)
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    truncated = ran_here("publish", source, tmp_path / "registry/m")
    weights.unlink()
    missing = ran_here("publish", source, tmp_path / "registry/m")
    assert (truncated.code, missing.code) == (7, 7)
    assert "model.safetensors" in truncated.err
    assert "[2/6]" not in truncated.err
    assert not list((tmp_path / "registry").glob("m/v*"))


def test_kinds_this_release_does_not_build(encoder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(encoder, source)
    config = json.loads((source / "config.json").read_text("utf-8"))
    for change in (
        {"is_encoder_decoder": True},
        {"architectures": ["BertForNextSentencePrediction"]},
        {"architectures": None},
    ):
        (source / "config.json").write_text(json.dumps(config | change))
        ran = ran_here("publish", source, tmp_path / "registry/m")
        assert ran.code == 8, ran.err
    assert not (tmp_path / "registry").exists()


def test_source_that_is_nothing(tmp_path: Path) -> None:
    ran = ran_here("publish", "./nothing-here", tmp_path / "registry/m")
    assert (ran.code, "nothing-here" in ran.err) == (7, True)


def test_output_folder_with_something_else_in_it(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    ran = ran_here("build", encoder, "-o", tmp_path)
    assert (ran.code, "is not a build of modeldrop" in ran.err) == (2, True)
    assert (tmp_path / "precious.txt").read_text() == "keep me"


def test_registry_that_cannot_be_written_is_said_before_the_build(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("a file")
    ran = ran_here("publish", encoder, tmp_path / "registry/m")
    assert ran.code == 12
    assert "[1/6]" not in ran.err


def test_too_little_space_is_said_before_the_build(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert main(["publish", str(encoder), str(tmp_path / "registry/m")]) == 15
    err = capsys.readouterr().err
    assert "1.0 kB free" in err or "0 MB free" in err
    assert "[1/6]" not in err


def test_nothing_is_logged_of_the_environment(encoder: Path, tmp_path: Path) -> None:
    secret = "hf_VerySecretTokenValue"
    ran = modeldrop("publish", encoder, tmp_path / "registry/m", "--variants", "bad", environment={"HF_TOKEN": secret})
    assert secret not in ran.err + ran.out
    grep = subprocess.run(["grep", "-r", secret, tmp_path], check=False, capture_output=True, text=True)
    assert grep.stdout == ""
