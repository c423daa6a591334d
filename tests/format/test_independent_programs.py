"""examples/format: a publisher and a reader that share no code with modeldrop work with it, each way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import modeldrop
from modeldrop.format.recipe import METRICS
from tests.helpers.builds import SHARED, contents, digest_of, edit, publish_build, registry
from tests.helpers.command_line import ROOT
from tests.helpers.command_line import modeldrop as command
from tests.helpers.signing import public, signing_with

__all__ = ["registry"]
PROGRAMS = ROOT / "examples/format"
GRAPH = "onnx/model.onnx"
FILES = {GRAPH: bytes(range(256)) * 9000, "config.json": b"{}\n", "größe #1.txt": "größe\n".encode(), "empty.txt": b""}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MODELDROP_REGISTRY", "MODELDROP_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    write(folder, FILES)
    return folder


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def program(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAMS / name, *map(str, arguments)], check=False, text=True, capture_output=True
    )


def publish(files: Path, model: Path) -> str:
    ran = program("publish.py", files, model, "--graph", GRAPH)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["publish.py", "read.py"])
def test_they_import_blake3_and_the_standard_library_alone(name: str) -> None:
    tree = ast.parse((PROGRAMS / name).read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {one.module if isinstance(one, ast.ImportFrom) else one.names[0].name for one in imports}
    assert {str(one).partition(".")[0] for one in names} - sys.stdlib_module_names == {"blake3"}


def test_what_another_publisher_writes_is_fetched_verified_and_shown(home: Path, files: Path, tmp_path: Path) -> None:
    model = tmp_path / "registry/embedder"
    assert publish(files, model) == "v1"
    snapshot = modeldrop.fetch(str(model), directory=home)
    assert {path: (Path(snapshot) / path).read_bytes() for path in FILES} == FILES
    assert command("verify", "-d", home).code == 0
    shown = command("show", model)
    assert shown.code == 0, shown.err
    assert all(path in shown.out for path in FILES)
    for name, document in (("manifest", "v1/manifest.json"), ("claim", "v1/claim.json"), ("channel", "current")):
        schema = json.loads((ROOT / f"docs/schemas/{name}.v1.json").read_text("utf-8"))
        Draft202012Validator(schema).validate(json.loads((model / document).read_bytes()))


def test_both_publish_into_one_model(home: Path, files: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    model = registry / "embedder"
    publish_build(registry, "a")
    assert publish(files, model) == "v2"
    assert publish(files, model) == "v2"  # nothing changed, so nothing is published
    publish_build(registry, "b")
    assert command("history", model).code == 0
    assert modeldrop.fetch(str(model), directory=home).version == 3
    (files / "config.json").write_bytes(b'{"changed": true}\n')
    assert publish(files, model) == "v4"
    assert modeldrop.fetch(str(model), directory=home).version == 4
    assert command("rollback", model).code == 0
    assert modeldrop.fetch(str(model), directory=home).version == 3
    publish(files, model)
    assert modeldrop.fetch(str(model), directory=home).version == 3  # a publish undoes no rollback


def test_what_another_publisher_writes_is_mirrored(home: Path, files: Path, tmp_path: Path) -> None:
    model, copy = tmp_path / "registry/embedder", tmp_path / "copy"
    publish(files, model)
    ran = command("mirror", f"{model}@current", copy)
    assert ran.code == 0, ran.err
    assert modeldrop.fetch(f"{copy}/embedder@v1", directory=home).digest == digest_of(model.parent, 1)


@pytest.mark.parametrize("selector", ["", "@current", "@v1", "@v1@{digest}"])
def test_another_reader_reads_what_modeldrop_publishes(selector: str, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    publish_build(registry, "a")
    reference = f"{registry}/embedder{selector.format(digest=digest_of(registry, 1))}"
    ran = program("read.py", reference, "int8", tmp_path / "target")
    assert (ran.returncode, ran.stdout) == (0, "v1\n"), ran.stderr
    wanted = {"onnx/model_quantized.onnx", *SHARED}
    assert contents_of(tmp_path / "target") == {path: data for path, data in contents("a").items() if path in wanted}


def test_another_reader_reads_what_another_publisher_writes(files: Path, tmp_path: Path) -> None:
    publish(files, tmp_path / "registry/embedder")
    ran = program("read.py", tmp_path / "registry/embedder", "fp32", tmp_path / "target")
    assert ran.returncode == 0, ran.stderr
    assert contents_of(tmp_path / "target") == FILES


@pytest.mark.parametrize("path", ["onnx/model.onnx", "odd names/50%25 größe #1 [漢字]~.txt", "manifest.json"])
def test_another_reader_refuses_a_flipped_byte(path: str, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    publish_build(registry, "a")
    damaged = registry / "embedder/v1" / path
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    ran = program("read.py", registry / "embedder", "fp32", tmp_path / "target")
    assert ran.returncode == 1
    assert "digest" in ran.stderr
    assert {one.name for one in tmp_path.iterdir()} == {"registry", ".build-a-fp32-int8"}


def test_another_reader_refuses_a_path_that_leads_out(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    publish_build(registry, "a")
    edit(registry / "embedder/v1/manifest.json", b'"config.json"', b'"../config.json"')
    ran = program("read.py", f"{registry}/embedder@v1", "fp32", tmp_path / "target")
    assert ran.returncode == 1
    assert "'../config.json' is not a path of a version" in ran.stderr


def test_the_page_defines_every_metric() -> None:
    page = (ROOT / "docs/registry-format.md").read_text("utf-8").partition("#### Metrics")[2].partition("####")[0]
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    sides = {name.strip("`"): row[1][-1] for row in rows for name in row[0].strip("| ").split(", ")}
    assert sides == {name: {">=": "≥", "<=": "≤"}[side] for name, side in METRICS.items()}


@pytest.mark.parametrize("reference", ["", "@current", "@v1"])
def test_another_reader_believes_and_refuses_what_ours_does(registry: Path, tmp_path: Path, reference: str) -> None:
    """It was written from the page: its Ed25519 is another one too."""
    with signing_with(1, 2):
        publish_build(registry, "a")
    model = f"{registry}/embedder{reference}"
    ran = program("read.py", model, "int8", tmp_path / "read", public(5), public(1))
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "read" / "config.json").is_file()
    refused = program("read.py", model, "int8", tmp_path / "refused", public(5))
    assert "not signed by a key that is trusted" in refused.stderr
    edit(registry / "embedder/v1/statement.json", b'"payload": "', b'"payload": "ICAg')  # blanks before the JSON
    changed = program("read.py", model, "int8", tmp_path / "refused", public(1))
    assert "not signed by a key that is trusted" in changed.stderr
    (registry / "embedder/v1/statement.json").unlink()
    assert program("read.py", model, "int8", tmp_path / "refused", public(1)).returncode == 1
    assert not (tmp_path / "refused").exists()
