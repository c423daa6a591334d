from __future__ import annotations

import pytest

from modeldrop.errors import UsageError
from modeldrop.fetcher.as_name import rename_graph
from modeldrop.format.manifest import File, Manifest, Variant
from tests.format import examples


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


@pytest.mark.parametrize("data", ["onnx/model_fp16.onnx_data", "onnx/model_fp16.onnx_data_1", "onnx/weights.bin"])
def test_external_data_stays_where_the_graph_looks_for_it(data: str) -> None:
    version = holding("onnx/model_fp16.onnx", data)
    assert rename_graph(*version, "onnx/model.onnx") == {"onnx/model_fp16.onnx": "onnx/model.onnx"}
    with pytest.raises(UsageError, match=r"looks for its weights, .* in its own folder") as caught:
        rename_graph(*version, "1/model.onnx")
    assert "--as onnx/model.onnx" in caught.value.hint


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
