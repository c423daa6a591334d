"""Models whose work is convolutions: what is built where nobody names variants, and what is refused of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from modeldrop.errors import ExportError
from modeldrop.export.messages import MadeVariants, QuantizeRequest
from modeldrop.export.worker_process import run_worker
from modeldrop.format.manifest import parse_manifest
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.heavy


def resnet(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=7
    )
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    size = {"shortest_edge": 64}
    transformers.ConvNextImageProcessor(size=size, crop_pct=1.0).save_pretrained(folder)
    return folder


def convolution(path: Path) -> Path:
    """A graph of which no config.json tells that it has no matrix products."""
    weights = numpy_helper.from_array(np.ones((64, 64, 3, 3), np.float32), "weights")
    shape = ("batch", 64, "height", "width")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixel_values", "weights"], ["logits"], name="conv")],
        "convolution",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [weights],
    )
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_copy_is_refused_or_left_out(tmp_path: Path) -> None:
    output = tmp_path / "out"
    convolution(output / "onnx/model.onnx")
    request = QuantizeRequest(
        output=output,
        roles=("model",),
        origin="fp32",
        variants=("fp32", "int8-accurate"),
        optional=(),
        keep={},
        calibration=None,
        external_data="auto",
        ready=False,
    )
    with pytest.raises(ExportError, match="int8-accurate of this model is a copy of fp32 with 100% of its bytes"):
        run_worker("quantize", request, MadeVariants, tmp_path, lambda _: None)
    optional = replace(request, optional=("int8-accurate",))
    made = run_worker("quantize", optional, MadeVariants, tmp_path, lambda _: None)
    assert list(made.graphs) == ["fp32"]
    assert "a copy of fp32" in made.dropped["int8-accurate"]
    assert [path.name for path in (output / "onnx").iterdir()] == ["model.onnx"]


def test_what_suits_convolutions_is_built(tmp_path: Path) -> None:
    source = resnet(tmp_path / "source")
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--variants", "fp32,int8-accurate")
    assert ran.code == 3, ran.err
    assert "a resnet has none: it would be a copy" in ran.err
    assert "Leave int8-accurate out of the recipe's variants; of convolutions, fp16" in ran.err

    ran = modeldrop("build", source, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    fp32, fp16 = manifest.variants
    assert (fp32.name, fp16.name) == ("fp32", "fp16")
    assert manifest.weights_of(fp16) < 0.6 * manifest.weights_of(fp32)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype("f4")
    with torch.inference_mode():
        original = transformers.ResNetForImageClassification.from_pretrained(source)
        theirs = original(torch.tensor(pixels)).logits.numpy()
    for variant in (fp32, fp16):
        session = onnxruntime.InferenceSession(tmp_path / "out" / variant.model)
        assert np.allclose(session.run(["logits"], {"pixel_values": pixels})[0], theirs, atol=2e-2)
