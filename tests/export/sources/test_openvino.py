"""Sources that hold OpenVINO graphs alone: taken as they are, smaller variants made of them, or refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from modeldrop.errors import ModeldropError, RecipeError, SourceError
from modeldrop.export import pipeline
from modeldrop.export.models.family import CLASSES, TOKENS
from modeldrop.export.openvino_ir import read_ir
from modeldrop.export.request import make_request
from modeldrop.export.sources import resolve_source
from modeldrop.fetcher.self_test import self_test
from modeldrop.format.manifest import Manifest, parse_manifest
from modeldrop.format.recipe import METRICS, Recipe, parse_recipe
from modeldrop.storage.write import open_store
from tests.helpers.clouds import Servers, sign_in
from tests.helpers.command_line import ROOT, RUNTIME_PYTHON, modeldrop
from tests.servers.hub import HubServer

if TYPE_CHECKING:
    from collections.abc import Iterable

XML = "openvino_model.xml"
BIN = "openvino_model.bin"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``classifier`` and ``writer`` with the graph at the root, ``embedder`` and ``seer`` in ``openvino/``."""
    folder = tmp_path_factory.mktemp("sources")
    command = [sys.executable, "-m", "tests.export.openvino_graphs", str(folder)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return folder


def of(output: Path) -> Manifest:
    return parse_manifest((output / "manifest.json").read_bytes())


def passes(output: Path, manifest: Manifest) -> None:
    for variant in manifest.variants:
        outcome = self_test(output, manifest, variant)
        assert outcome.passed, outcome.detail


def loose(folder: Path, metrics: Iterable[str], *variants: str) -> Path:
    """A recipe that asks nothing of the variants but the first."""
    lines = [f"variants = {list(variants)}"]
    for variant in variants[1:]:
        worst = {">=": -1.0, "<=": 1e9}
        lines += [f"[thresholds.{variant}]", *(f"{name} = {worst[METRICS[name]]}" for name in metrics)]
    path = folder / "loose.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def registry(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier, published with the variants that suit it."""
    folder = tmp_path_factory.mktemp("published") / "registry"
    ran = modeldrop("publish", sources / "classifier", folder / "classifier")
    assert ran.code == 0, ran.err
    return folder


@pytest.mark.heavy
def test_a_graph_at_the_root_is_taken_as_it_is_and_an_int8_made(registry: Path, sources: Path) -> None:
    output = registry / "classifier" / "v1"
    manifest = of(output)
    whole, small = manifest.variants
    assert [whole.name, small.name] == ["openvino-fp32", "openvino-int8"] == list(manifest.recipe.variants)
    for ending in (".xml", ".bin"):
        copied = (output / whole.model).with_suffix(ending)
        assert copied.read_bytes() == (sources / "classifier" / XML).with_suffix(ending).read_bytes()
    assert not (output / "onnx").exists()
    assert manifest.original.framework == f"OpenVINO {manifest.toolchain['openvino']}"
    assert ',attention_mask"' in (output / whole.model).read_text()  # one of its names; the other is a number
    assert whole.fidelity.metrics["max_abs"] < 1e-4  # other texts beside one change the last digits
    assert small.fidelity.metrics["cosine_min"] > 0.98
    assert (whole.opset, whole.ir_version, whole.min_onnxruntime) == (13, 11, "")
    assert [tensor.name for tensor in (*small.inputs, *small.outputs)] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "logits",
    ]
    assert manifest.weights_of(small) < 0.5 * manifest.weights_of(whole)
    assert "nncf" in manifest.toolchain


@pytest.mark.heavy
def test_auto_fetches_it_and_it_passes_its_self_test_where_openvino_is(registry: Path, tmp_path: Path) -> None:
    arguments = ("fetch", registry / "classifier", "--self-test", "--json", "-d", tmp_path / "models")
    without = modeldrop(*arguments, python=RUNTIME_PYTHON)
    assert without.code == 16, without.err
    assert "A self-test needs openvino" in without.err
    fetched = modeldrop(*arguments)
    assert fetched.code == 0, fetched.err
    # Of so small a model either may have been faster when it was built.
    assert [one["variant"] for one in fetched.json] in (["openvino-int8"], ["openvino-fp32"])


@pytest.mark.heavy
def test_other_variants_of_such_a_version_are_refused(registry: Path) -> None:
    with pytest.raises(SourceError, match="has no fp32 variant: it has openvino-fp32, openvino-int8"):
        resolve_source(f"{registry}/classifier@v1")


@pytest.mark.heavy
def test_a_repository_of_the_hub(sources: Path, tmp_path: Path) -> None:
    with HubServer() as hub:
        repo = hub.add_repo("acme/embedder-ov", sources / "embedder", card={"license": "mit"})
        environment = {**hub.environment, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        planned = modeldrop("plan", "acme/embedder-ov", tmp_path / "registry/m", environment=environment)
        assert "would build openvino-fp16, openvino-int8" in planned.out, planned.err
        assert not any(request.path.endswith(BIN) and request.method == "GET" for request in hub.requests)
        ran = modeldrop("build", "acme/embedder-ov", "-o", tmp_path / "out", environment=environment)
    assert ran.code == 0, ran.err
    manifest = of(tmp_path / "out")
    assert (manifest.source.commit, manifest.source.licence) == (repo.refs["main"], "mit")
    assert [variant.model for variant in manifest.variants] == [
        "openvino/openvino_model.xml",
        "openvino/openvino_model_qint8_quantized.xml",
    ]
    # The graph answers for every token; what pools them lies beside it, for sentence-transformers.
    assert manifest.golden.output == "last_hidden_state"
    assert "neighbours" not in manifest.variants[0].fidelity.metrics
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"} <= {
        file.path for file in manifest.files
    }
    passes(tmp_path / "out", manifest)


@pytest.mark.heavy
def test_a_bucket(sources: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sign_in(monkeypatch, servers["s3"])
    url = f"{servers['s3'].registry()}/seer"
    store = open_store(url)
    folder = sources / "seer"
    for path in (path for path in folder.rglob("*") if path.is_file()):
        store.swap(path.relative_to(folder).as_posix(), path.read_bytes(), None)
    recipe = loose(tmp_path, CLASSES, "openvino-fp32", "openvino-fp16", "openvino-int4")
    ran = modeldrop("build", url, "-o", tmp_path / "out", "--recipe", recipe)
    assert ran.code == 0, ran.err
    manifest = of(tmp_path / "out")
    assert manifest.source.identity.startswith(f"{url}@sha256:")
    assert [read_ir(tmp_path / "out" / variant.model).weights for variant in manifest.variants] == ["f32", "f16", "u4"]
    passes(tmp_path / "out", manifest)


@pytest.mark.heavy
def test_a_language_model_that_keeps_its_past(sources: Path, tmp_path: Path) -> None:
    """Only what is made of it is published; the graph that it was made of is the original."""
    recipe = loose(tmp_path, TOKENS, "openvino-fp16", "openvino-int8")
    recipe.write_text(recipe.read_text().replace("'openvino-fp16', ", ""))
    ran = modeldrop("build", sources / "writer", "-o", tmp_path / "out", "--recipe", recipe)
    assert ran.code == 0, ran.err
    manifest = of(tmp_path / "out")
    (variant,) = manifest.variants
    assert {path.name for path in (tmp_path / "out/openvino").glob("openvino_model*.xml")} == {Path(variant.model).name}
    assert [tensor.name for tensor in variant.inputs] == ["input_ids", "attention_mask", "position_ids", "beam_idx"]
    assert variant.fidelity.metrics["cosine_mean"] > 0.99
    assert (tmp_path / "out/openvino/openvino_tokenizer.xml").is_file()
    steps = manifest.golden.chains[0].steps
    assert len(steps) > 1
    assert set(steps[1].inputs) == {"input_ids", "attention_mask", "position_ids"}
    passes(tmp_path / "out", manifest)


@pytest.mark.heavy
def test_weights_that_are_no_numbers(sources: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sources / "classifier", tmp_path / "nan")
    constant = next(one for one in read_ir(folder / XML).constants if len(one.shape) == 2)
    data = np.memmap(folder / BIN, np.uint8, mode="r+")
    data[constant.offset : constant.offset + 4].view(np.float32)[:] = np.nan
    data.flush()
    ran = modeldrop("build", folder, "-o", tmp_path / "out")
    assert (ran.code, f"The weight {constant.name} of the OpenVINO graph holds NaN" in ran.err) == (7, True), ran.err
    assert not (tmp_path / "out").exists()


def edit(name: str, before: str, after: str, count: int = -1) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after, count))

    return change


def configured(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def drop(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def cut(folder: Path) -> None:
    (folder / BIN).write_bytes((folder / BIN).read_bytes()[:-100])


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no .bin": (drop(BIN), r"without its weights: there is no openvino_model\.bin"),
    "half a .bin": (cut, r"openvino_model\.bin of .* is truncated: it has \d+ bytes"),
    "half an .xml": (edit(XML, "</layers>", ""), r"openvino_model\.xml of .* is not a whole OpenVINO graph"),
    "no .xml": (lambda folder: (folder / XML).write_text("<html/>"), r"not a whole OpenVINO graph \(it describes no"),
    "entities": (edit(XML, "?>\n", "?><!DOCTYPE net>\n", 1), "it has a document type"),
    "another encoding": (
        lambda folder: (folder / XML).write_text('<?xml version="1.0" encoding="utf-16"?><net/>', "utf-16"),
        r"not a whole OpenVINO graph \('utf-8' codec can't decode",
    ),
    "no input_ids": (edit(XML, 'names="input_ids"', 'names="tokens"'), "takes tokens, .*: no input_ids"),
    "another input": (edit(XML, 'names="token_type_ids"', 'names="bbox"'), "also bbox"),
    "fixed length": (edit(XML, "<dim>-1</dim>", "<dim>128</dim>", 2), r"input_ids of the fixed shape \[128, 128\]"),
    "another output": (edit(XML, 'names="logits"', 'names="scores"'), "answers scores; .* must answer logits"),
    "other labels": (configured(id2label={"0": "a", "1": "b"}), r"answers 3 scores, and config\.json names 2 labels"),
    "other weights": (edit(XML, 'element_type="f32" shape', 'element_type="bf16" shape'), "weights of the type bf16"),
    "without a past": (configured(architectures=["BertLMHeadModel"]), "keeps no past"),
    "another family": (
        configured(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
        "one for text2text-generation, and those are not taken as they are",
    ),
    "no config": (drop("config.json"), r"no config\.json"),
    "no tokenizer": (
        drop("tokenizer.json", "vocab.txt"),
        "no tokenizer",
    ),
}


def check(folder: Path, **recipe: object) -> None:
    pipeline.check_request(make_request(resolve_source(str(folder)), parse_recipe(recipe)))


@pytest.mark.heavy
@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_slow(name: str, sources: Path, tmp_path: Path) -> None:
    spoil, message = REFUSED[name]
    folder = shutil.copytree(sources / "classifier", tmp_path / "source")
    spoil(folder)
    with pytest.raises(SourceError, match=message) as caught:
        check(folder)
    assert caught.value.hint


@pytest.mark.heavy
def test_what_cannot_be_made_is_refused_with_what_can(sources: Path) -> None:
    cases: list[tuple[str, dict[str, object], str, str]] = [
        ("classifier", {"variants": ["fp32", "openvino-int8", "int8"]}, "fp32, int8 cannot be made", "openvino-fp32, "),
        (
            "embedder",
            {"variants": ["openvino-fp32"]},
            "weights have 16 bits",
            "These can: openvino-fp16, openvino-int8",
        ),
        ("embedder", {"thresholds": {"openvino-int8": {"neighbours": 0.9}}}, "has no such metric", "cosine_mean"),
        ("embedder", {"options": {"openvino-int8": {"max_size": "60%"}}}, "no fp32 to compare", "25 MB"),
        ("embedder", {"options": {"openvino-int8": {"must_be_faster": True}}}, "no fp32 to compare", "Leave must_be"),
        ("classifier", {"options": {"openvino-fp32": {"keep_layers": ["*"]}}}, "stay as they are", "keep_layers"),
        ("classifier", {"opset": 17}, "ready graphs", "Leave opset out"),
    ]
    for source, recipe, message, hint in cases:
        with pytest.raises(RecipeError) as caught:
            check(sources / source, **recipe)
        assert message in caught.value.message
        assert hint in caught.value.hint


@pytest.mark.heavy
def test_config_and_tokenizer_from_another_place(sources: Path, tmp_path: Path) -> None:
    for name in (XML, BIN):
        shutil.copyfile(sources / "classifier" / name, tmp_path / name)
    with pytest.raises(SourceError, match=r"no config\.json"):
        resolve_source(str(tmp_path))
    source = resolve_source(str(tmp_path / XML), tokenizer=str(sources / "classifier"))
    checked = pipeline.check_request(make_request(source, Recipe()))
    assert (checked.task, checked.origin.name, source.worker) == (
        "text-classification",
        "openvino-fp32",
        "adopt_openvino",
    )
    folder = source.materialize(tmp_path / "in")
    assert {"config.json", "tokenizer.json", "openvino"} <= {path.name for path in folder.iterdir()}
    assert {path.name for path in (folder / "openvino").iterdir()} == {XML, BIN}


@pytest.mark.heavy
def test_one_that_is_quantized_stays_what_it_is(registry: Path) -> None:
    graph = registry / "classifier/v1/openvino/openvino_model_qint8_quantized.xml"
    for spec in (str(graph), f"{registry}/classifier/v1#openvino/{graph.name}"):
        source = resolve_source(spec)
        assert make_request(source, Recipe()).recipe.variants == ("openvino-int8",)
        smaller = make_request(source, Recipe(variants=("openvino-int4",)))
        with pytest.raises(RecipeError, match=r"openvino-int4 cannot be made: .* 8 bits") as caught:
            pipeline.check_request(smaller)
        assert "These can: openvino-int8." in caught.value.hint


@pytest.mark.heavy
def test_without_openvino(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_EXPORTER_PYTHON", str(RUNTIME_PYTHON))
    with pytest.raises(ModeldropError, match="openvino-fp32 needs nncf and openvino, not installed") as caught:
        check(sources / "classifier")
    assert caught.value.exit_code == 16
    assert "modeldrop[build,openvino]" in caught.value.hint
    assert "the model that this graph was made of" in caught.value.hint
