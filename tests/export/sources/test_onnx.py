"""Ready ONNX graphs as sources: which are chosen, what is refused, and what is built of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from modeldrop.errors import SourceError, UsageError
from modeldrop.export.sources import resolve_source
from modeldrop.export.sources.graphs import choose_onnx, external_locations
from modeldrop.format.manifest import Manifest, parse_manifest
from tests.export.recipes import loosened
from tests.export.source_folders import CONFIG, graph, ready, tree
from tests.helpers.checkpoints import bert, make_embedder
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("names", "asked", "chosen"),
    [
        (["onnx/model.onnx", "onnx/model_quantized.onnx", "model.onnx"], "", {"model": "onnx/model.onnx"}),
        (["model.onnx", "model_fp16.onnx"], "", {"model": "model.onnx"}),
        (["export.onnx"], "", {"model": "export.onnx"}),
        (["onnx/model.onnx", "onnx/model_O2.onnx"], "onnx/model_O2.onnx", {"model": "onnx/model_O2.onnx"}),
        (["deep/er/model.onnx"], "deep/er", {"model": "deep/er/model.onnx"}),
        (
            ["onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx", "onnx/decoder_model.onnx"],
            "",
            {
                "encoder_model": "onnx/encoder_model.onnx",
                "decoder_model_merged": "onnx/decoder_model_merged.onnx",
            },
        ),
        (["model.safetensors"], "", {}),
    ],
)
def test_which_graphs_are_the_model(names: list[str], asked: str, chosen: Mapping[str, str]) -> None:
    assert choose_onnx(names, asked, where="acme/m") == chosen


def test_says_which_graphs_there_are() -> None:
    with pytest.raises(SourceError, match=r"no ONNX file other\.onnx") as caught:
        choose_onnx(["a.onnx", "onnx/b.onnx"], "other.onnx", where="acme/m")
    assert "a.onnx, onnx/b.onnx" in caught.value.hint


@pytest.mark.parametrize("external", ["", "model.onnx_data", "weights.bin"])
def test_finds_the_files_with_weights_as_onnx_does(external: str, tmp_path: Path) -> None:
    path = graph(tmp_path / "model.onnx", external=external)
    assert external_locations(path, "it") == ([external] if external else [])


def test_every_cut_of_a_graph_is_refused_or_keeps_its_weights(tmp_path: Path) -> None:
    whole = graph(tmp_path / "model.onnx", external="weights.bin").read_bytes()
    cut = tmp_path / "cut.onnx"
    refused = 0
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        try:
            found = external_locations(cut, "it")
        except SourceError:
            refused += 1
        else:
            assert found == ["weights.bin"]
    # A cut behind the graph itself leaves a shorter, valid message: the worker's checker refuses that.
    assert refused > len(whole) - 40


def test_a_folder_of_onnx_is_handed_over_with_its_data(tmp_path: Path) -> None:
    folder = ready(tmp_path / "m", external="weights.bin")
    source = resolve_source(str(folder))
    assert source.worker == "adopt"
    assert set(tree(source.materialize(tmp_path / "out"))) == {
        "config.json",
        "tokenizer.json",
        "onnx/model.onnx",
        "onnx/weights.bin",
    }
    assert source.weight_bytes() == sum(
        (folder / "onnx" / name).stat().st_size for name in ("model.onnx", "weights.bin")
    )


def test_the_data_is_part_of_the_identity(tmp_path: Path) -> None:
    folder = ready(tmp_path / "m", external="weights.bin")
    before = resolve_source(str(folder)).identity
    (folder / "onnx/weights.bin").write_bytes(bytes((folder / "onnx/weights.bin").stat().st_size))
    assert resolve_source(str(folder)).identity != before


def test_refuses_a_graph_whose_data_is_missing(tmp_path: Path) -> None:
    folder = ready(tmp_path / "m", external="weights.bin")
    (folder / "onnx/weights.bin").unlink()
    with pytest.raises(SourceError, match=r"keeps weights in weights\.bin, which is not there"):
        resolve_source(str(folder))


@pytest.mark.parametrize("name", ["onnx/model.onnx", "model.onnx", "mine.onnx"])
def test_a_file_is_named_by_its_path(name: str, tmp_path: Path) -> None:
    folder = ready(tmp_path / "m", name)
    graph(folder / "other.onnx")
    for spec in (str(folder / name), f"{folder}#{name}"):
        source = resolve_source(spec)
        assert source.spec == spec
        assert set(tree(source.materialize(tmp_path / f"out-{spec.count(chr(35))}"))) == {
            "config.json",
            "tokenizer.json",
            "onnx/model.onnx",
        }


def test_a_file_that_is_there_is_no_model_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(tmp_path / "m", "mine.onnx")
    (tmp_path / "m/x.skops").write_bytes(b"trees")
    monkeypatch.chdir(tmp_path)
    assert set(tree(resolve_source("m/mine.onnx").materialize(tmp_path / "out"))) == {
        "config.json",
        "tokenizer.json",
        "onnx/model.onnx",
    }
    assert resolve_source("m/x.skops", task="generic").identity.startswith("sha256:")
    with pytest.raises(UsageError, match="is not a Hugging Face model id"):
        resolve_source(f"m/{'x' * 300}.onnx")


def test_weights_come_first_unless_a_graph_is_named(tmp_path: Path) -> None:
    from tests.export.source_folders import safetensors

    folder = ready(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(safetensors())
    assert resolve_source(str(folder)).worker == "export"
    assert resolve_source(f"{folder}#onnx").worker == "adopt"
    with pytest.raises(UsageError, match="names no file after the #"):
        resolve_source(f"{folder}#")


def test_the_tokenizer_comes_from_another_place(tmp_path: Path) -> None:
    path = graph(tmp_path / "m" / "mine.onnx")
    (path.parent / "vocab.txt").write_bytes(b"of another")
    other = tmp_path / "tokenizer"
    other.mkdir()
    for name, data in {"config.json": CONFIG, "tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}.items():
        (other / name).write_bytes(data)
    assert resolve_source(str(path)).task == "generic"  # of which nobody knows that it reads tokens
    source = resolve_source(str(path), tokenizer=str(other))
    assert source.config() == json.loads(CONFIG)
    assert set(tree(source.materialize(tmp_path / "out"))) == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/model.onnx",
    }
    with pytest.raises(SourceError, match="has no tokenizer"):
        resolve_source(str(path), tokenizer=str(path.parent.parent))


def test_another_tokenizer_is_another_build(tmp_path: Path) -> None:
    from modeldrop.export.request import make_request
    from modeldrop.format.recipe import Recipe

    folder = ready(tmp_path / "m")
    keys = set()
    for number in (1, 2):
        other = tmp_path / f"t{number}"
        other.mkdir()
        (other / "tokenizer.json").write_text(f"[{number}]")
        keys.add(make_request(resolve_source(str(folder), tokenizer=str(other)), Recipe(tokenizer=str(other))).key)
    copy = tmp_path / "t3"
    copy.mkdir()
    (copy / "tokenizer.json").write_text("[2]")
    keys.add(make_request(resolve_source(str(folder), tokenizer=str(copy)), Recipe(tokenizer=str(copy))).key)
    assert len(keys) == 2


# What only the worker can tell, in one process of its own: it brings torch.
_CHECK = """
import sys
from pathlib import Path
from modeldrop.export.workers.adopt import check
from modeldrop.errors import SourceError
for name in sys.argv[1:]:
    try:
        check(Path(name))
    except SourceError as error:
        print(error.message)
    else:
        print("good")
"""


def test_the_worker_refuses_what_no_variant_can_be_made_of(tmp_path: Path) -> None:
    ones = np.ones((4, 4), np.float32)
    nan = ones.copy()
    nan[1, 2] = np.nan
    quantized = onnx.load(graph(tmp_path / "quantized.onnx"))
    quantized.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["product"], ["q", "s", "z"]))
    onnx.save(quantized, tmp_path / "quantized.onnx")
    unknown = onnx.load(graph(tmp_path / "unknown.onnx"))
    unknown.graph.node[0].op_type = "Kast"
    onnx.save(unknown, tmp_path / "unknown.onnx")
    short = graph(tmp_path / "short.onnx", external="short.bin")
    (tmp_path / "short.bin").write_bytes(b"\0" * 16)
    expected = {
        graph(tmp_path / "good.onnx", external="good.bin"): "good",
        graph(tmp_path / "nan.onnx", weight=nan): "The weight weight of nan.onnx holds NaN or infinity",
        tmp_path / "quantized.onnx": "quantized.onnx is quantized already (DynamicQuantizeLinear)",
        tmp_path / "unknown.onnx": "unknown.onnx is not a valid ONNX graph",
        short: "short.onnx",
        graph(tmp_path / "fixed.onnx", shape=(1, 128)): "input_ids of fixed.onnx has the fixed shape [1, 128]",
        graph(tmp_path / "half.onnx", weight=ones.astype(np.float16)): "half.onnx",
    }
    ran = subprocess.run(
        [sys.executable, "-c", _CHECK, *map(str, expected)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == len(expected)
    for line, words in zip(lines, expected.values(), strict=True):
        assert words in line


@dataclass(frozen=True)
class Published:
    source: Path
    registry: Path

    @property
    def reference(self) -> str:
        return f"{self.registry}/embedder@v1"

    def manifest(self, version: str) -> Manifest:
        return parse_manifest((self.registry / "embedder" / version / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A small embedder in fp32, as v1."""
    folder = tmp_path_factory.mktemp("published")
    source = make_embedder(bert(folder / "source"), {"pooling_mode_mean_tokens": True}, dense=True, normalize=True)
    (source / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    ran = modeldrop("publish", source, folder / "registry" / "embedder", "--variants", "fp32")
    assert ran.code == 0, ran.err
    return Published(source, folder / "registry")


@pytest.mark.heavy
def test_a_version_gets_another_variant_without_being_exported_again(published: Published, tmp_path: Path) -> None:
    loose = loosened(tmp_path, ("cosine_mean", "cosine_min", "neighbours"))
    ran = modeldrop("publish", published.reference, f"{published.registry}/embedder", "--recipe", loose)
    assert ran.code == 0, ran.err
    one, two = published.manifest("v1"), published.manifest("v2")
    assert two.source.identity.startswith("modeldrop:sha256:")
    assert two.source.licence == one.source.licence == "cc-by-4.0"
    assert two.original.framework.startswith("onnxruntime ")
    assert two.file("onnx/model.onnx").sha256 == one.file("onnx/model.onnx").sha256
    assert {file.path for file in two.files} - {file.path for file in one.files} == {"onnx/model_quantized.onnx"}
    int8 = two.variant("int8")
    assert int8 is not None
    assert int8.fidelity.metrics["cosine_mean"] > 0.5
    assert two.golden.output == "sentence_embedding"
    again = modeldrop("publish", published.reference, f"{published.registry}/embedder", "--recipe", loose)
    assert "unchanged" in again.out + again.err
    assert not (published.registry / "embedder" / "v3").exists()


def test_refuses_a_version_without_fp32(published: Published, tmp_path: Path) -> None:
    from modeldrop.format.manifest import serialize_manifest

    manifest = published.registry / "embedder" / "v1" / "manifest.json"
    copy = tmp_path / "registry" / "embedder" / "v1"
    copy.mkdir(parents=True)
    plain = json.loads(manifest.read_bytes())
    plain["variants"][0]["name"] = "int8"
    (copy / "manifest.json").write_bytes(serialize_manifest(parse_manifest(json.dumps(plain).encode())))
    with pytest.raises(SourceError, match="has no fp32 variant: it has int8"):
        resolve_source(f"{tmp_path}/registry/embedder@v1")


@pytest.mark.heavy
def test_a_graph_from_a_script_with_a_tokenizer_from_elsewhere(published: Published, tmp_path: Path) -> None:
    """Its weights lie in files of odd names; the version has them where the ecosystem looks."""
    mine = tmp_path / "scripts" / "mine.onnx"
    mine.parent.mkdir()
    whole = onnx.load(published.registry / "embedder/v1/onnx/model.onnx")
    onnx.save_model(whole, mine, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=1024)
    assert len(external_locations(mine, "it")) > 5
    loose = loosened(tmp_path, ("cosine_mean", "cosine_min"))
    ran = modeldrop("build", mine, "--tokenizer", published.source, "-o", tmp_path / "out", "--recipe", loose)
    assert ran.code == 0, ran.err
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    there = {path.name for path in (tmp_path / "out/onnx").iterdir()}
    assert there == {"model.onnx", "model.onnx_data", "model_quantized.onnx"}
    assert manifest.task == "feature-extraction"
    fp32, int8 = manifest.variants
    assert fp32.fidelity.metrics["cosine_min"] == pytest.approx(1.0)
    assert int8.fidelity.metrics["cosine_mean"] > 0.5
    assert manifest.recipe.tokenizer == Path(published.source).name
