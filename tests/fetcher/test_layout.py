from __future__ import annotations

from pathlib import Path

import pytest

import modeldrop
from modeldrop.errors import UsageError, VariantError
from modeldrop.fetcher.consumers import CONSUMERS, Consumer
from modeldrop.fetcher.home import read_link
from modeldrop.fetcher.layout import Layout, rename_graph, renamed_variant
from modeldrop.fetcher.options import Options
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.triton import configs
from modeldrop.fetcher.verify import find_damage
from modeldrop.format.manifest import File, Graph, Manifest, Tensor, Variant
from tests.format import examples
from tests.helpers.builds import publish_build


def holding(model: str, *others: str) -> tuple[Manifest, Variant]:
    paths = (model, *others, "config.json", "tokenizer.json")
    example = examples.manifest()
    variant = example.variants[0]._replace(name="int8", model=model, files=paths)
    # Of another variant: it is not fetched, so its name is free.
    files = tuple(File(path, 0, "0" * 64, ()) for path in dict.fromkeys((*paths, "onnx/model.onnx")))
    return example._replace(files=files, variants=(variant,)), variant


@pytest.mark.parametrize("name", ["onnx/model.onnx", "model.onnx", "1/model.onnx", "onnx/größer.onnx"])
def test_the_graph_gets_the_name_that_was_asked_for(name: str) -> None:
    assert rename_graph(*holding("onnx/model_quantized.onnx"), name) == {"onnx/model_quantized.onnx": name}


def test_the_name_it_has_changes_nothing() -> None:
    assert rename_graph(*holding("onnx/model_quantized.onnx"), "onnx/model_quantized.onnx") == {}


@pytest.mark.parametrize("data", ["model_fp16.onnx_data", "model_fp16.onnx_data_1", "weights.bin"])
def test_external_data_is_always_where_the_graph_looks_for_it(data: str) -> None:
    version = holding("onnx/model_fp16.onnx", f"onnx/{data}")
    assert rename_graph(*version, "onnx/model.onnx") == {"onnx/model_fp16.onnx": "onnx/model.onnx"}
    for folder in ("1/", ""):
        moved = {"onnx/model_fp16.onnx": f"{folder}model.onnx", f"onnx/{data}": f"{folder}{data}"}
        assert rename_graph(*version, f"{folder}model.onnx") == moved


def test_external_data_does_not_take_the_place_of_another_file() -> None:
    version = holding("onnx/model_fp16.onnx", "onnx/weights.bin", "weights.bin")
    with pytest.raises(UsageError, match="another file there"):
        rename_graph(*version, "model.onnx")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/model.onnx", "is absolute"),
        ("../model.onnx", r"'\.\.'"),
        ("onnx\\model.onnx", "back-slash"),
        ("manifest.json", "the registry keeps for itself"),
        ("", "must have between 1"),
        ("onnx/model.pt", r"keep its ending \.onnx"),
        ("config.json/model.onnx", "another file there"),
        ("onnx/MODEL.onnx", "another file there"),
    ],
)
def test_names_that_cannot_be_are_refused(name: str, why: str) -> None:
    version = holding("onnx/model_quantized.onnx", "onnx/Model.onnx")
    with pytest.raises(UsageError, match=why) as caught:
        rename_graph(*version, name)
    assert caught.value.message.startswith("--as")
    assert caught.value.hint


def test_openvino_graphs_keep_their_names() -> None:
    version = holding("openvino/openvino_model.xml", "openvino/openvino_model.bin")
    with pytest.raises(UsageError, match=r"finds the weights of openvino/openvino_model\.xml by its name"):
        rename_graph(*version, "openvino/model.xml")


def test_one_path_is_not_given_to_several_graphs() -> None:
    manifest, variant = in_two_graphs()
    with pytest.raises(UsageError, match="encoder_model, decoder_model_merged") as caught:
        rename_graph(manifest, variant, "onnx/model.onnx")
    assert "--for" in caught.value.hint


def in_two_graphs() -> tuple[Manifest, Variant]:
    paths = [f"onnx/{role}_quantized.onnx" for role in ("encoder_model", "decoder_model_merged")]
    manifest, variant = holding(*paths)
    other = Graph("decoder_model_merged", paths[1], (), ())
    variant = variant._replace(role="encoder_model", others=(other,))
    return manifest._replace(task="text2text-generation", variants=(variant,)), variant


def test_every_graph_gets_the_name_that_the_program_looks_for() -> None:
    manifest, variant = in_two_graphs()
    for consumer in ("transformers.js", "optimum"):
        renames = Layout(consumer=consumer).renames(manifest, variant)
        assert renames == {path: f"onnx/{role}.onnx" for role, path in variant.graphs.items()}
        assert list(renamed_variant(variant, renames).graphs.values()) == list(renames.values())


def test_what_lies_beside_a_graph_goes_along() -> None:
    data = "onnx/model_fp16.onnx_data"  # the graph says its name
    manifest, variant = holding("onnx/model_fp16.onnx", data)
    assert Layout(consumer="tei").renames(manifest, variant) == {"onnx/model_fp16.onnx": "onnx/model.onnx"}
    moved = Consumer("elsewhere", onnx="1").paths(variant)
    assert moved == {"onnx/model_fp16.onnx": "1/model.onnx", data: "1/model_fp16.onnx_data"}
    stem, tokenizer = "openvino/openvino_model_qint8_quantized", "openvino/openvino_tokenizer"
    manifest, variant = holding(f"{stem}.xml", f"{stem}.bin", f"{tokenizer}.xml", f"{tokenizer}.bin")
    assert Layout(consumer="sentence-transformers").renames(manifest, variant) == {
        f"{stem}.xml": "openvino/openvino_model.xml",
        f"{stem}.bin": "openvino/openvino_model.bin",
    }
    assert set(Layout(consumer="openvino-genai").renames(manifest, variant).values()) == {
        f"openvino_{name}.{ending}" for name in ("model", "tokenizer") for ending in ("xml", "bin")
    }


def test_a_program_is_given_only_what_it_reads() -> None:
    example = examples.manifest()
    onnx = example.variants[0]
    openvino = onnx._replace(name="openvino-int8", model="openvino/openvino_model_qint8_quantized.xml")
    both = example._replace(task="feature-extraction", variants=(onnx, openvino))
    for name, read in (("tei", onnx), ("optimum-intel", openvino)):
        assert Layout(consumer=name).readable(both, None).variants == (read,)
    assert Layout(consumer="sentence-transformers").readable(both, None) == both
    with pytest.raises(VariantError, match="optimum-intel reads OpenVINO's graphs: not fp32") as caught:
        Layout(consumer="optimum-intel").readable(both, onnx.name)
    assert caught.value.hint == "Name one that it reads: openvino-int8."
    with pytest.raises(VariantError, match="not fp32 of this version"):
        Layout(consumer="optimum-intel").readable(both._replace(variants=(onnx,)), None)
    with pytest.raises(VariantError, match="openvino-genai does not read models for feature-extraction"):
        Layout(consumer="openvino-genai").readable(both, None)
    with pytest.raises(VariantError, match="does not read models for image-classification"):
        Layout(consumer="tei").readable(both._replace(task="image-classification"), None)
    with pytest.raises(VariantError, match="does not read models for token-classification"):
        Layout(consumer="tei").readable(both._replace(task="token-classification"), None)
    classifier = both._replace(architecture="BertForSequenceClassification")
    with pytest.raises(VariantError, match="tei takes BertForSequenceClassification for a classifier"):
        Layout(consumer="tei").readable(classifier, None)
    assert Layout(consumer="tei").readable(classifier._replace(task="text-classification"), None).variants == (onnx,)
    with pytest.raises(VariantError, match="fastembed reads ONNX graphs, and models of one graph: not int8"):
        Layout(consumer="fastembed").readable(in_two_graphs()[0], None)
    static = onnx._replace(inputs=(*onnx.inputs, onnx.inputs[0]._replace(name="offsets")))
    with pytest.raises(VariantError, match="tei gives a row of tokens for each text"):
        Layout(consumer="tei").readable(both._replace(variants=(static,)), None)
    assert Layout(consumer="transformers.js").readable(both._replace(variants=(static,)), None).variants == (static,)


def test_programs_are_named_as_they_are() -> None:
    with pytest.raises(UsageError, match="--for torchserve") as caught:
        Options(consumer="torchserve")
    assert all(name in caught.value.hint for name in CONSUMERS)
    with pytest.raises(UsageError, match="exclude each other"):
        Options(consumer="tei", as_name="onnx/model.onnx")


def test_a_place_that_another_file_has_is_not_given_away() -> None:
    version = holding("onnx/model_quantized.onnx", "onnx/Model.onnx")
    with pytest.raises(UsageError, match="--for optimum: the variant int8 has another file there"):
        Layout(consumer="optimum").renames(*version)


def test_a_snapshot_for_a_program_has_its_own_link_and_is_found_again(registry: Path, tmp_path: Path) -> None:
    publish_build(registry, "a")
    reference = f"{registry}/embedder"
    plain = modeldrop.fetch(reference, tmp_path, variant="int8")
    found = modeldrop.fetch(reference, tmp_path, variant="int8", consumer="tei")
    assert found.model_file == found.path / "onnx/model.onnx"
    assert found.downloaded == 0  # linked from the plain one
    assert read_link(tmp_path / "embedder/current-int8-for-tei") == found.path.name
    assert modeldrop.fetch(reference, tmp_path, variant="int8").path == plain.path
    with pytest.raises(VariantError, match="optimum-intel reads OpenVINO's graphs: not fp32, int8 of this version"):
        modeldrop.fetch(reference, tmp_path, consumer="optimum-intel")
    (registry / "embedder/current").unlink()
    again = modeldrop.fetch(reference, tmp_path, variant="int8", consumer="tei", on_unavailable="offline")
    assert again.path == found.path
    assert modeldrop.fetch(f"{reference}@v1", tmp_path, variant="int8", consumer="fastembed").path == found.path


def test_triton_gets_a_repository_with_the_signature_of_every_graph(tmp_path: Path) -> None:
    first, second = Tensor("x", "float32", ("rows", "4")), Tensor("rate", "int64", ())
    graphs = {
        "detect": Graph("detect", "onnx/detect.onnx", (first, second), (Tensor("names", "string", ("?",)),)),
        "read": Graph("read", "onnx/read.onnx", (first,), (first,)),
    }
    example = examples.manifest()
    data = "onnx/read.onnx_data"
    one = graphs["detect"]
    variant = example.variants[0]._replace(
        model=one.path,
        role="detect",
        inputs=one.inputs,
        outputs=one.outputs,
        others=(graphs["read"],),
        files=(*(graph.path for graph in graphs.values()), data, "labels.txt"),
    )
    renamed = Layout(consumer="triton").renames(example, variant)
    assert renamed == {
        "onnx/detect.onnx": "detect/1/model.onnx",
        "onnx/read.onnx": "read/1/model.onnx",
        data: "read/1/read.onnx_data",
    }
    written = configs(variant, renamed)
    assert sorted(written) == ["detect/config.pbtxt", "read/config.pbtxt"]
    assert (
        written["detect/config.pbtxt"].decode()
        == """name: "detect"
backend: "onnxruntime"
max_batch_size: 0
input [
  {
    name: "x"
    data_type: TYPE_FP32
    dims: [ -1, 4 ]
  },
  {
    name: "rate"
    data_type: TYPE_INT64
    dims: [ 1 ]
    reshape: { shape: [ ] }
  }
]
output [
  {
    name: "names"
    data_type: TYPE_STRING
    dims: [ -1 ]
  }
]
"""
    )
    assert configs(variant, {}) == {}
    maps = variant._replace(outputs=(Tensor("p", "sequence(map(int64, float32))", ()),), others=())
    with pytest.raises(VariantError, match=r"serves tensors alone, and p of detect is sequence"):
        Layout(consumer="kserve").readable(example._replace(variants=(maps,)), None)


def test_a_repository_for_triton_is_a_snapshot_like_others(tmp_path: Path, registry: Path) -> None:
    publish_build(registry, "a")
    snapshot = modeldrop.fetch(f"{registry}/embedder", tmp_path / "home", consumer="triton", variant="fp32")
    assert snapshot.model_file == snapshot.path / "model" / "1" / "model.onnx"
    config = snapshot.path / "model" / "config.pbtxt"
    assert "input [" in config.read_text()
    (link,) = (tmp_path / "home" / "embedder").glob("*-for-triton")
    assert link.resolve() == snapshot.path
    assert list(find_damage(LocalSnapshot(snapshot.path), read_files=True)) == []
    config.chmod(0o644)
    config.write_text("name: 'other'")
    assert [text for text in find_damage(LocalSnapshot(snapshot.path), read_files=True) if "signature" in text]
