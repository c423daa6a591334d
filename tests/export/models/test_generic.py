"""Models of no known task: graphs as they are, from the folder to the container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import modeldrop as library
from modeldrop.errors import ModeldropError, RecipeError, SourceError
from modeldrop.export.models.generic.inputs import read_inputs
from modeldrop.export.onnx_files import describe_onnx
from modeldrop.export.quantizers.openvino_check import check_convertible
from modeldrop.export.sources import resolve_source
from modeldrop.export.sources.generic import named_model
from modeldrop.fetcher.self_test import self_test
from modeldrop.format.manifest import Manifest, Tensor, parse_manifest
from modeldrop.inference.outputs import FAR, compare_named
from tests.export import generic_graphs as graphs
from tests.helpers.command_line import build_here, modeldrop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

X = Tensor("x", "float32", ("rows", "4"))
NAMES = Tensor("names", "string", ("n",))
RATE = Tensor("rate", "int64", ())


def build(folder: Path, source: Path, recipe: str = "") -> Manifest:
    (folder / "recipe.toml").write_text(recipe)
    ran = build_here(source, folder / "out", "--recipe", folder / "recipe.toml")
    assert ran.code == 0, ran.err
    return parse_manifest((folder / "out" / "manifest.json").read_bytes())


@pytest.mark.slow
def test_several_graphs_go_the_whole_way_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "model"
    whole = {
        "detect": graphs.scorer(source / "detect.onnx", opset=24, dtype=np.float64),
        "read": graphs.with_state(source / "read.onnx"),
    }
    (source / "labels.txt").write_text("cat\ndog\nbird\n")
    (source / "inputs.csv").write_text("secret\n1\n")
    registry = tmp_path / "models"
    ran = modeldrop("publish", source, registry / "eye")
    assert ran.code == 0, ran.err
    snapshot = library.fetch(f"{registry}/eye", tmp_path / "home", self_test=True)
    assert snapshot.variant == "fp32"
    assert {role: path.read_bytes() for role, path in snapshot.model_files.items()} == {
        role: path.read_bytes() for role, path in whole.items()
    }
    assert sorted(path.name for path in snapshot.path.iterdir()) == ["labels.txt", "manifest.json", "onnx"]
    read = snapshot.signature["read"]
    assert [(one.name, one.dtype, one.shape) for one in read.inputs] == [
        ("x", "float32", ("1", "8")),
        ("state", "float32", ("1", "8")),
        ("rate", "int64", ()),
    ]
    assert snapshot.signature["detect"].outputs[0].shape == ("rows", "3")
    manifest = snapshot.manifest
    assert (manifest.task, manifest.architecture) == ("generic", "ONNX")
    assert manifest.variants[0].fidelity.metrics == {
        "abs_error": 0.0,
        "rel_error": 0.0,
        "label_agreement": 1.0,
        "rank_agreement": 1.0,
    }
    assert manifest.golden.texts == ("drawn 1", "drawn 2", "drawn 3", "drawn 4")
    shown = modeldrop("show", f"{registry}/eye").out
    assert "rate" in shown
    assert "int64 []" in shown


@pytest.mark.slow
def test_variants_are_made_of_a_graph_and_proven_on_the_recipes_inputs(tmp_path: Path) -> None:
    source = graphs.scorer(tmp_path / "net.onnx", rows=256)
    random = np.random.default_rng(1)
    rows = random.standard_normal((40, 1, 256)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", x=rows)
    np.savez(tmp_path / "calibration.npz", x=rows[:, 0])
    (tmp_path / "quality.py").write_text(
        "def agree(original, variant, samples):\n"
        "    assert len(samples[0]['x'][0]) == 256\n"
        "    return float(sum((a['label'] == b['label']).all() for a, b in zip(original, variant)) / len(original))\n"
    )
    manifest = build(
        tmp_path,
        source,
        'variants = ["fp32", "fp16", "int8", "int8-static"]\ninputs = "inputs.npz"\nmetric = "quality:agree"\n'
        'calibration = "calibration.npz"\n'
        "[thresholds.int8]\nlabel_agreement = 0.8\nrank_agreement = 0.8\nagree = '>= 80%'\n"
        "[thresholds.int8-static]\nlabel_agreement = 0.5\nrank_agreement = 0.5\nrel_error = 1.0\n",
    )
    figures = {variant.name: variant.fidelity.metrics for variant in manifest.variants}
    assert list(figures) == ["fp32", "fp16", "int8", "int8-static"]
    assert figures["fp32"]["rel_error"] == 0 < figures["fp16"]["rel_error"] < figures["int8"]["rel_error"]
    assert figures["int8"]["agree"] == figures["int8"]["label_agreement"]
    assert manifest.variants[0].fidelity.texts == 40
    assert manifest.variants[3].inputs == manifest.variants[0].inputs
    for variant in manifest.variants:
        assert self_test(tmp_path / "out", manifest, variant).passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "variant"),
    [
        (lambda path: graphs.scorer(path, opset=7, dtype=np.float16), "fp16"),
        (graphs.of_strings, "fp32"),
    ],
    ids=["fp16 of opset 7", "strings"],
)
def test_a_graph_is_called_what_it_is(make: Any, variant: str, tmp_path: Path) -> None:
    source = make(tmp_path / "net.onnx")
    manifest = build(tmp_path, source)
    assert [one.name for one in manifest.variants] == [variant]
    assert (tmp_path / "out" / manifest.variants[0].model).read_bytes() == source.read_bytes()
    assert self_test(tmp_path / "out", manifest, manifest.variants[0]).passed


@pytest.mark.slow
def test_a_quantized_graph_with_data_beside_it_travels_with_what_the_recipe_names(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    source = tmp_path / "model"
    graphs.scorer(tmp_path / "fp32.onnx", rows=64)
    (source / "text").mkdir(parents=True)
    quantize_dynamic(tmp_path / "fp32.onnx", source / "net.onnx")
    model = onnx.load(source / "net.onnx")
    (source / "net.onnx").unlink()
    onnx.save(model, source / "net.onnx", save_as_external_data=True, location="net.weights", size_threshold=0)
    (source / "text" / "vocab.bin").write_bytes(b"\0\1")
    (source / "other.txt").write_text("not named")
    manifest = build(tmp_path, source, 'files = ["text/*.bin"]')
    assert [one.name for one in manifest.variants] == ["int8"]
    assert [file.path for file in manifest.files] == ["onnx/model_quantized.onnx", "text/vocab.bin"]
    session = onnxruntime.InferenceSession(tmp_path / "out/onnx/model_quantized.onnx")
    assert session.run(None, {"x": np.ones((2, 64), np.float32)})[0].shape == (2, 3)


def test_the_signature_is_read_from_the_graph(tmp_path: Path) -> None:
    label = helper.make_tensor_type_proto(graphs.INT64, None)
    scores = helper.make_sequence_type_proto(
        helper.make_map_type_proto(graphs.INT64, helper.make_tensor_type_proto(1, []))
    )
    path = graphs.save(
        tmp_path / "tree.onnx",
        [
            helper.make_node("Identity", ["x"], ["label"]),
            helper.make_node("ZipMap", ["p"], ["scores"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
        ],
        [
            graphs.value("x", graphs.INT64, [None, "n"]),
            graphs.value("p", graphs.FLOAT, [2, 2]),
            graphs.value("w", 1, [2]),
        ],
        [helper.make_value_info("label", label), helper.make_value_info("scores", scores)],
        {"w": np.zeros(2, np.float32)},
        domains=("ai.onnx.ml",),
    )
    described = describe_onnx(path)
    assert described.inputs == (Tensor("x", "int64", ("?", "n")), Tensor("p", "float32", ("2", "2")))
    assert described.outputs == (
        Tensor("label", "int64", ("...",)),
        Tensor("scores", "sequence(map(int64, float32))", ()),
    )


def source_tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        graphs.scorer(path) if name.endswith(".onnx") else path.write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("names", "spec", "files", "taken"),
    [
        (["a.onnx", "b.onnx", "labels.json", "data.csv"], "", (), ["a.onnx", "b.onnx", "labels.json"]),
        (["a.onnx", "b.onnx", "a.labels.txt", "c.txt"], "a.onnx", (), ["a.labels.txt", "a.onnx"]),
        (["onnx/model.onnx", "onnx/model_fp16.onnx"], "", (), ["onnx/model.onnx"]),
        (["a.onnx", "x/deep/v.bin", "labels.txt"], "", ("x/deep/*",), ["a.onnx", "x/deep/v.bin"]),
        (["a.onnx", "manifest.json", "bom.cdx.json", "requirements.txt", ".env.txt"], "", (), ["a.onnx"]),
    ],
)
def test_what_travels(names: list[str], spec: str, files: tuple[str, ...], taken: list[str], tmp_path: Path) -> None:
    folder = source_tree(tmp_path / "m", *names)
    source = resolve_source(str(folder / spec), files=files)
    into = source.materialize(tmp_path / "into")
    found = [Path(path.resolve()).relative_to(folder).as_posix() for path in into.rglob("*") if path.is_file()]
    assert sorted(found) == taken
    assert source.task == "generic"


@pytest.mark.parametrize(
    ("names", "spec", "recipe", "error", "says"),
    [
        (["a.onnx"], "", {"files": ("*.bin",)}, SourceError, r"no file \*\.bin"),
        (["a.onnx"], "", {"files": ("../secret",)}, SourceError, "not a path inside"),
        (["a.onnx", "manifest.json"], "", {"files": ("*.json",)}, SourceError, "its own manifest.json"),
        (["a.onnx", "Tested.json"], "", {"files": ("*.json",)}, SourceError, r"its own Tested\.json"),
        (["a.txt"], "", {"task": "generic"}, SourceError, "neither ONNX graphs nor"),
        (["model.pkl"], "", {}, SourceError, "is a pickle"),
        (["model.joblib"], "model.joblib", {}, SourceError, "is a pickle"),
        (["a.skops", "b.cbm"], "", {}, SourceError, "2 models"),
        (["a.onnx"], "b.onnx", {}, SourceError, "does not exist"),
        (["a.onnx"], "", {"task": "feature-extraction"}, SourceError, "no config.json"),
    ],
)
def test_sources_that_are_refused(
    names: list[str],
    spec: str,
    recipe: Mapping[str, Any],
    error: type[ModeldropError],
    says: str,
    tmp_path: Path,
) -> None:
    folder = source_tree(tmp_path / "m", *names)
    with pytest.raises(error, match=says):
        resolve_source(str(folder / spec), **recipe)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ('variants = ["fp16", "fp32"]\n', "fp32 cannot be made: this source's graphs are fp16 already"),
        ("[thresholds.fp16]\ntop1 = 0.9\n", "no such metric"),
        ('inputs = "x.txt"\n', "none of .npz, .npy, .jsonl, .csv, .parquet"),
        ("max_length = 64\n", "reads no texts"),
    ],
)
def test_recipes_that_are_refused_before_slow_work(recipe: str, says: str, tmp_path: Path) -> None:
    source = graphs.scorer(tmp_path / "net.onnx", dtype=np.float16)
    (tmp_path / "recipe.toml").write_text(recipe)
    ran = build_here(source, tmp_path / "out", "--recipe", tmp_path / "recipe.toml")
    assert ran.code != 0
    assert says in ran.err
    assert "export" not in ran.err


@pytest.mark.slow
def test_variants_for_openvino_are_made_of_a_graph(tmp_path: Path) -> None:
    source = graphs.scorer(tmp_path / "net.onnx", rows=4096)
    manifest = build(tmp_path, source, 'variants = ["fp32", "openvino-fp16", "openvino-int8"]\n')
    assert [variant.name for variant in manifest.variants] == ["fp32", "openvino-fp16", "openvino-int8"]
    fp16, int8 = manifest.variants[1:]
    assert 0 < fp16.fidelity.metrics["rel_error"] < 0.02
    assert manifest.weights_of(int8) < manifest.weights_of(fp16) < manifest.weights_of(manifest.variants[0])
    assert (int8.inputs, int8.outputs) == (manifest.variants[0].inputs, manifest.variants[0].outputs)
    assert self_test(tmp_path / "out", manifest, int8).passed


@pytest.mark.slow
def test_what_openvino_has_no_form_of_is_refused_by_name(tmp_path: Path) -> None:
    graphs.of_strings(tmp_path / "net.onnx")
    with pytest.raises(RecipeError, match="cannot read the graph net: it has no form of StringConcat"):
        check_convertible({"net": tmp_path / "net.onnx"})
    (tmp_path / "recipe.toml").write_text('variants = ["fp32", "openvino-fp16"]\n')
    ran = build_here(tmp_path / "net.onnx", tmp_path / "out", "--recipe", tmp_path / "recipe.toml")
    assert ran.code == RecipeError.exit_code
    assert "has no form of StringConcat" in ran.err
    assert "quantize" not in ran.err


@pytest.mark.slow
def test_a_graph_that_does_not_check_is_refused(tmp_path: Path) -> None:
    path = graphs.save(
        tmp_path / "net.onnx",
        [helper.make_node("Relu", ["nothing"], ["y"])],
        [graphs.value("x", 1, [1])],
        [graphs.value("y", 1, [1])],
    )
    ran = build_here(path, tmp_path / "out")
    assert ran.code == SourceError.exit_code
    assert "not a valid ONNX graph" in ran.err


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    if name.endswith(".npz"):
        np.savez(path, **content)
    elif name.endswith(".npy"):
        np.save(path, content)
    else:
        path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("signature", "name", "content", "shapes"),
    [
        ([X], "a.npz", {"x": np.ones((5, 4))}, [(5, 4)]),
        ([X], "a.npz", {"x": np.ones((5, 1, 4))}, [(1, 4)] * 5),
        ([X], "a.npy", np.ones((2, 3, 4)), [(3, 4)] * 2),
        ([X], "a.csv", "a,b,c,d,label\n1,2,3,4,yes\n5,6,,8,no\n", [(1, 4)] * 2),
        ([X], "a.jsonl", '{"x": [1, 2, 3, 4], "label": 1}\n\n{"x": [[1, 2, 3, 4], [1, 2, 3, 4]]}\n', [(1, 4), (2, 4)]),
        ([NAMES], "a.csv", "names\nAda\nGrace\n", [(1,)] * 2),
    ],
)
def test_inputs_are_read_by_name(
    signature: Sequence[Tensor], name: str, content: Any, shapes: Sequence[tuple[int, ...]], tmp_path: Path
) -> None:
    found = read_inputs(write(tmp_path, name, content), {"model": signature}, further=False)
    arrays = [one.steps[0].inputs[signature[0].name] for one in found]
    assert [array.shape for array in arrays] == list(shapes)  # type: ignore[union-attr]
    assert {array.dtype.kind for array in arrays} == ({"U"} if signature == [NAMES] else {"f"})  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npz", {"y": np.ones((5, 4))}, "has 'y', which no input is called"),
        ("a.npz", {"x": np.ones((5, 3)), "rate": np.int64(1)}, r"x of the shape \(5, 3\): expected is float32"),
        ("a.npz", {"x": np.ones((5, 4))}, r"has no rate: expected is int64 \[\]"),
        ("a.npz", {"x": np.array([["a"] * 4]), "rate": np.int64(1)}, "has 'a' as x: expected is float32"),
        ("a.npz", {"x": np.ones((5, 4)), "rate": np.float32(1.5)}, "rate with .*1.5.*: expected is int64"),
        ("a.jsonl", '{"x": [1, 2, 3, 4], "rate": "fast"}', "has 'fast' as rate: expected is int64"),
        ("a.jsonl", "[1, 2]", "line 1 of .* is no object"),
        ("a.csv", "x,rate\n1\n", "not as many cells"),
        ("a.csv", "x,rate\n", "no inputs"),
        ("a.npz", b"PK", "not a whole .npz file"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(name: str, content: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(tmp_path, name, content)
    with pytest.raises(RecipeError, match=says):
        read_inputs(path, {"model": [X, RATE]}, further=False)


def test_strings_are_not_made_of_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a.npz", {"names": np.ones(2)})
    with pytest.raises(RecipeError, match=r"names as float64: expected is string \[n\]"):
        read_inputs(path, {"model": [NAMES]}, further=False)


def test_outputs_are_compared_by_their_types() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)
    one = {"scores": scores, "label": np.array(["b", "a"]), "score": np.array([1.0, 2.0])}
    same, _ = compare_named([one], [one])
    assert same == {"abs_error": 0.0, "rel_error": 0.0, "label_agreement": 1.0, "rank_agreement": 1.0}
    other = {"scores": scores[:, ::-1], "label": np.array(["b", "b"]), "score": np.array([2.0, 1.0])}
    figures, worst = compare_named([one, one], [one, other])
    assert figures == {"abs_error": 1.0, "rel_error": 0.8888888843, "label_agreement": 0.75, "rank_agreement": 0.5}
    assert worst["label_agreement"] == (1, 0.5)
    nan = {"y": np.array([np.nan, np.inf, 1.0])}
    assert compare_named([nan], [nan])[0]["abs_error"] == 0
    assert compare_named([nan], [{"y": np.array([0.0, np.inf, 1.0])}])[0]["abs_error"] == FAR
    assert compare_named([nan], [{"y": np.zeros(2)}])[0]["rel_error"] == FAR
    assert compare_named([nan], [{}])[0]["rel_error"] == FAR


def test_rows_without_a_number_are_the_same_as_themselves() -> None:
    rows = np.array([[np.nan] * 3, [np.nan, 1, 2], [-np.inf] * 3, [np.inf, 1, 2], [1, 2, 3]], np.float32)
    figures, _ = compare_named([{"y": rows, "one": rows[:, 1]}], [{"y": rows.copy(), "one": rows[:, 1].copy()}])
    assert figures == {"abs_error": 0.0, "rel_error": 0.0, "rank_agreement": 1.0}
    other = rows.copy()
    other[3] = [0, 1, 2]
    assert compare_named([{"y": rows}], [{"y": other}])[0]["rank_agreement"] == 0.8


def test_a_graph_that_is_named_is_taken_whatever_models_lie_beside_it() -> None:
    names = ["net.onnx", "a.skops", "b.joblib"]
    assert named_model(names, "net.onnx", where="here") == ""
    with pytest.raises(SourceError, match=r"here has 2 models: a\.skops, b\.joblib"):
        named_model(names, "", where="here")
