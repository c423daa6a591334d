"""Every kind of variant from one small embedder, twice: files, figures, gates, layers kept, the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from modeldrop.errors import GateError, RecipeError
from modeldrop.export.pipeline import flag_external_data
from modeldrop.export.preflight.checks import check_request
from modeldrop.export.request import make_request
from modeldrop.export.sources import resolve_source
from modeldrop.export.thresholds import check_speeds
from modeldrop.export.workers.quantize import kept_nodes
from modeldrop.format.manifest import Manifest, Variant, parse_manifest
from modeldrop.format.recipe import VariantOptions, parse_recipe
from modeldrop.format.variants import VARIANTS
from tests.export.foreign_environment import foreign_environment
from tests.helpers.checkpoints import bert, make_embedder, t5, vit, whisper
from tests.helpers.command_line import modeldrop, ran_here

pytestmark = pytest.mark.heavy

PATHS = {
    "fp32": "onnx/model.onnx",
    "o1": "onnx/model_O1.onnx",
    "o2": "onnx/model_O2.onnx",
    "o3": "onnx/model_O3.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "o4": "onnx/model_O4.onnx",
    "int8-accurate": "onnx/model_int8.onnx",
    "int8": "onnx/model_quantized.onnx",
    "int8-avx512-vnni": "onnx/model_qint8_avx512_vnni.onnx",
    "int8-avx2": "onnx/model_quint8_avx2.onnx",
    "int8-arm64": "onnx/model_qint8_arm64.onnx",
    "uint8": "onnx/model_uint8.onnx",
    "int8-static": "onnx/model_static.onnx",
    "int4": "onnx/model_q4.onnx",
    "openvino-fp32": "openvino/openvino_model_fp32.xml",
    "openvino-fp16": "openvino/openvino_model.xml",
    "openvino-int8": "openvino/openvino_model_qint8_quantized.xml",
    "openvino-int4": "openvino/openvino_model_qint4_quantized.xml",
}
KEPT = "*/layer.0/attention/*"
LOOSE = "cosine_mean = -1\ncosine_min = -1\nneighbours = 0\n"


def recipe(
    folder: Path,
    *,
    first: str = "",
    more: str = "",
    loose: tuple[str, ...] = tuple(VARIANTS)[1:],
    variants: object = VARIANTS,
) -> Path:
    (folder / "texts.txt").write_text("the harbour at night\nGröße\nfold the dough four times\n")
    names = json.dumps(list(variants))  # type: ignore[call-overload]
    text = f'variants = {names}\ncalibration = "texts.txt"\n{first}'
    text += "".join(f"[thresholds.{name}]\n{LOOSE}" for name in loose) + more
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = bert(tmp_path_factory.mktemp("source"))
    return make_embedder(folder, {"pooling_mode_mean_tokens": True}, dense=False, normalize=True)


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    more = f'[options.uint8]\nkeep_layers = ["{KEPT}"]\nmax_size = "99%"\n'
    ran = modeldrop("build", source, "-o", folder / "out", "--recipe", recipe(folder, more=more))
    assert ran.code == 0, ran.err
    (folder / "log").write_text(ran.err)
    return folder


@pytest.fixture(scope="module")
def manifest(built: Path) -> Manifest:
    return parse_manifest((built / "out/manifest.json").read_bytes())


def variant(manifest: Manifest, name: str) -> Variant:
    found = manifest.variant(name)
    assert found is not None
    return found


def test_every_variant_has_the_ecosystems_name(manifest: Manifest) -> None:
    assert {one.name: one.model for one in manifest.variants} == PATHS
    for one in manifest.variants:
        if one.model.endswith(".xml"):
            assert one.model.replace(".xml", ".bin") in one.files
        assert [tensor.name for tensor in one.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
        assert "sentence_embedding" in {tensor.name for tensor in one.outputs}


@pytest.mark.soak  # of fp32 and int8, test_reproducible.py says so each time
def test_the_same_recipe_gives_the_same_bytes_in_another_folder(built: Path, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere, with a comma"
    shutil.copytree(source, folder)
    with foreign_environment(tmp_path) as environment:
        arguments = ("build", folder, "-o", tmp_path / "out", "--recipe", built / "recipe.toml")
        ran = modeldrop(*arguments, environment=environment)
    assert ran.code == 0, ran.err
    digests = [
        {file.path: file.sha256 for file in parse_manifest((folder / "manifest.json").read_bytes()).files}
        for folder in (built / "out", tmp_path / "out")
    ]
    assert digests[0] == digests[1]


FUSED = {
    "o1": set(),
    "o2": {"Attention", "BiasGelu", "SkipLayerNormalization"},
    "o3": {"Attention", "FastGelu", "SkipLayerNormalization"},
    "o4": {"Attention", "FastGelu", "SkipLayerNormalization"},
}


@pytest.mark.parametrize("name", FUSED)
def test_optimized_graphs_have_fused_layers_and_answer_alike(built: Path, manifest: Manifest, name: str) -> None:
    model = onnx.load(built / "out" / PATHS[name])
    assert {node.op_type for node in model.graph.node if node.domain} == FUSED[name]
    # onnxruntime names whatever it knows, and an older one refuses what it does not know.
    assert {entry.domain for entry in model.opset_import} <= {"", "com.microsoft"}
    found = variant(manifest, name)
    assert found.fidelity.metrics["cosine_min"] > (0.99999 if name in {"o1", "o2"} else 0.999)
    halves = sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    assert (halves > 10) == (name == "o4")
    assert {one.dtype for one in (*found.inputs, *found.outputs)} == {"int64", "float32"}


def test_what_made_openvinos_graphs_is_recorded(manifest: Manifest) -> None:
    assert {"nncf", "openvino"} <= set(manifest.toolchain)


def test_openvino_and_nncf_tell_nobody() -> None:
    program = (
        "from modeldrop.export.quantizers import openvino\n"
        "import nncf.telemetry.wrapper, openvino.tools.ovc.convert_impl as convert\n"
        "print(type(nncf.telemetry.wrapper.telemetry).__name__, convert.tm.__name__)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    nncf, openvino = told.split()
    assert nncf != "NNCFTelemetry"
    assert openvino == "openvino.tools.ovc.telemetry_stub"


def test_a_tokenizer_that_openvino_cuts_otherwise_is_left_out(built: Path, manifest: Manifest) -> None:
    # Lower case letters of Greek: what BERT's normalizer makes of them, openvino_tokenizers does not.
    assert not [file.path for file in manifest.files if "tokenizer.xml" in file.path]
    assert "no openvino_tokenizer.xml: it cuts '" in (built / "log").read_text()


def test_layers_that_are_kept_stay_as_they_are(built: Path) -> None:
    def operators(name: str) -> list[str]:
        graph = onnx.load(built / "out" / PATHS[name]).graph
        return [node.op_type for node in graph.node if "/layer.0/attention/" in node.name]

    assert "MatMulInteger" in operators("int8")
    assert "MatMulInteger" not in operators("uint8")


def test_accurate_leaves_no_table_of_words_as_it_is(built: Path) -> None:
    # onnxruntime's quantizer of weights in blocks skips it, and says so in a log that nobody reads.
    graph = onnx.load(built / "out" / PATHS["int8-accurate"]).graph
    assert "MatMulNBits" in {node.op_type for node in graph.node}
    table = max(graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    assert table.data_type in {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_static_has_fixed_ranges(built: Path) -> None:
    kinds = {node.op_type for node in onnx.load(built / "out" / PATHS["int8-static"]).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert "DynamicQuantizeLinear" not in kinds


def test_openvino_answers_what_it_was_proven_to(built: Path, manifest: Manifest) -> None:
    import openvino

    model = openvino.Core().compile_model(built / "out" / PATHS["openvino-fp16"], "CPU")
    case = manifest.golden.cases[0]
    answer = model({name: np.array([ids], np.int64) for name, ids in case.inputs.items()})[manifest.golden.output][0]
    assert np.dot(answer, case.values) > 0.999
    assert variant(manifest, "openvino-int8").fidelity.metrics["cosine_min"] > 0.98


def test_what_is_too_large_is_not_built(source: Path, tmp_path: Path) -> None:
    more = '[options.int8]\nmax_size = "1%"\n'
    asked = recipe(tmp_path, more=more, loose=("int8",), variants=("fp32", "int8"))
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", asked)
    assert (ran.code, "required is at most 1%" in ran.err) == (19, True), ran.err
    assert not (tmp_path / "out").exists()


def test_faster_is_meant_over_one_and_many() -> None:
    options = {"int8": VariantOptions(must_be_faster=1.5)}
    check_speeds(options, {"int8": (1.0, 100.0)}, (3.0, 100.0))
    with pytest.raises(GateError, match=r"int8: 1\.41 times as fast as fp32"):
        check_speeds(options, {"int8": (1.0, 100.0)}, (2.0, 100.0))


def test_patterns_of_layers_that_mean_none_are_refused(built: Path) -> None:
    graphs = [built / "out" / PATHS["fp32"]]
    assert kept_nodes("int8", [KEPT], graphs)
    with pytest.raises(RecipeError, match=r"options\.int8\.keep_layers: no node is called 'nothing\*'"):
        kept_nodes("int8", [KEPT, "nothing*"], graphs)


def test_a_search_keeps_the_layers_that_hurt_most(source: Path, tmp_path: Path, manifest: Manifest) -> None:
    reached = variant(manifest, "int8").fidelity.metrics["cosine_min"]
    wanted = 1 - (1 - reached) * 0.8
    more = f"[thresholds.int8]\ncosine_mean = -1\nneighbours = 0\ncosine_min = {wanted}\n[options.int8]\nauto = true\n"
    asked = recipe(tmp_path, first="opset = 17\n", more=more, loose=(), variants=("fp32", "int8"))
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", asked)
    assert ran.code == 0, ran.err
    found = variant(parse_manifest((tmp_path / "out/manifest.json").read_bytes()), "int8")
    assert (found.opset, variant(manifest, "int8").opset) == (17, 18)
    assert found.fidelity.metrics["cosine_min"] >= wanted
    assert not found.search[0].holds
    assert min(one.weights for one in found.search if one.holds) == (tmp_path / "out" / found.model).stat().st_size


@pytest.mark.soak
def test_a_search_without_an_answer_says_how_close_it_came(source: Path, tmp_path: Path) -> None:
    more = "[thresholds.int8]\ncosine_mean = -1\nneighbours = 0\ncosine_min = 0.9999999\n[options.int8]\nauto = true\n"
    asked = recipe(tmp_path, more=more, loose=(), variants=("fp32", "int8"))
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", asked)
    assert ran.code == 10, ran.err
    assert "none of " in ran.err
    assert "cosine_min is 0." in ran.err


def refused(source: Path, folder: Path, variants: tuple[str, ...], calibration: Path | None) -> str:
    line = "" if calibration is None else f"calibration = {json.dumps(str(calibration))}\n"
    (folder / "r.toml").write_text(f"variants = {json.dumps(variants)}\n{line}")
    ran = ran_here("build", source, "-o", folder / "out", "--recipe", folder / "r.toml")
    assert ran.code == 3, ran.err
    assert "[1/" not in ran.err  # nothing slow has begun
    return ran.err


IDS = np.ones((2, 8), np.int64)
WRONG: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "shape": ({"input_ids": IDS, "attention_mask": IDS[:, :4]}, "attention_mask in"),
    "type": ({"input_ids": IDS.astype(np.float32), "attention_mask": IDS}, "input_ids in"),
    "vocabulary": ({"input_ids": IDS * 10**6, "attention_mask": IDS}, "vocabulary has"),
    "name": ({"pixel_values": IDS}, "this model takes input_ids"),
    "counts": ({"input_ids": IDS, "attention_mask": IDS[:1]}, "same first dimension"),
}


@pytest.mark.parametrize("name", WRONG)
def test_calibration_of_the_wrong_shape_is_refused_before_slow_work(source: Path, tmp_path: Path, name: str) -> None:
    arrays, told = WRONG[name]
    np.savez(tmp_path / "data.npz", allow_pickle=False, **arrays)
    assert told in refused(source, tmp_path, ("int8-static",), tmp_path / "data.npz")


def test_pictures_are_calibrated_by_arrays_of_their_shape(tmp_path: Path) -> None:
    source = vit(tmp_path / "source")
    np.savez(tmp_path / "data.npz", pixel_values=np.zeros((2, 3, 32, 32), np.float32))
    told = refused(source, tmp_path, ("int8-static",), tmp_path / "data.npz")
    assert "(examples, 3, 64, 64)" in told


def test_static_without_calibration_and_several_graphs_are_refused(source: Path, tmp_path: Path) -> None:
    assert "needs calibration data" in refused(source, tmp_path, ("int8-static",), None)
    assert "models of one graph" in refused(t5(tmp_path / "t5"), tmp_path, ("o2",), None)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "fused": ({"variants": ["o3"]}, "o3 is for models whose layers onnxruntime can fuse; this one is rembert"),
    "int4": ({"variants": ["int4"], "opset": 17}, "int4 is made of graphs of opset 18 or later, not of 17"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_of_it_is_refused_before_slow_work(source: Path, tmp_path: Path, name: str) -> None:
    plain, told = REFUSED[name]
    folder = tmp_path / "source"
    shutil.copytree(source, folder)
    if name == "fused":
        config = json.loads((folder / "config.json").read_text()) | {"model_type": "rembert"}
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match=told):
        check_request(make_request(resolve_source(str(folder)), parse_recipe(plain)))


def test_an_opset_of_ready_graphs_is_refused(built: Path) -> None:
    with pytest.raises(RecipeError, match="opset: this source has ready graphs"):
        check_request(make_request(resolve_source(f"{built}/out#onnx/model.onnx"), parse_recipe({"opset": 17})))


@pytest.mark.parametrize("make", [vit, whisper])
def test_a_longest_text_of_what_reads_none_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = resolve_source(str(make(tmp_path / "source")))
    with pytest.raises(RecipeError, match="reads no texts"):
        check_request(make_request(source, parse_recipe({"max_length": 64})))


def test_openvino_without_its_extra_is_refused(source: Path, tmp_path: Path) -> None:
    python = Path(__file__).parents[2] / ".venv-runtime/bin/python"
    (tmp_path / "r.toml").write_text('variants = ["openvino-int8"]')
    environment = {"MODELDROP_EXPORTER_PYTHON": str(python)}
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", tmp_path / "r.toml", environment=environment)
    assert (ran.code, "modeldrop[build,openvino]" in ran.err) == (16, True), ran.err


def test_transformers_js_is_told_of_external_data(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    flag_external_data(tmp_path, ["onnx/model_fp16.onnx", "openvino/openvino_model.bin"])
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "bert"}
    flag_external_data(tmp_path, ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_fp16.onnx"])
    told = json.loads((tmp_path / "config.json").read_text())["transformers.js_config"]
    assert told == {"use_external_data_format": {"model.onnx": 1}}
    both = [f"onnx/{name}{ending}" for name in ("model.onnx", "model_fp16.onnx") for ending in ("", "_data")]
    flag_external_data(tmp_path, both, {"model.onnx"})  # it is the name of the other one too, fetched --for it
    told = json.loads((tmp_path / "config.json").read_text())["transformers.js_config"]
    assert told == {"use_external_data_format": {"model_fp16.onnx": 1}}
