"""Models that no exporter reads: each is refused by its name and with a way, from names of files and config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modeldrop.errors import ModeldropError, SourceError, TaskError
from modeldrop.export.preflight.checks import check_request
from modeldrop.export.preflight.foreign_config import check_config
from modeldrop.export.request import make_request
from modeldrop.export.sources import resolve_source
from modeldrop.export.sources.file_choice import choose_files
from modeldrop.format.recipe import Recipe
from tests.export.source_folders import model

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 9}
WEIGHTS = "model.safetensors"


@pytest.mark.parametrize(
    ("names", "said", "way"),
    [
        (["gliner_config.json", "pytorch_model.bin"], "a GLiNER model", "export_to_onnx"),
        (["gliner_config.json", WEIGHTS], "a GLiNER model", "generic model"),
        (["model_index.json", "unet/config.json"], "a pipeline of diffusers", "optimum-cli export onnx"),
        (["model-Q4_K_M.gguf"], "GGUF weights, for llama.cpp", "int4 are made here"),
        (["config.json", "model-Q4_K_M.gguf"], "tells GGUF weights", "int4 are made here"),
        (["model.keras", "metadata.json"], "a Keras model", "format='onnx'"),
        (["saved_model.pb", "variables/variables.index"], "a SavedModel of TensorFlow", "--saved-model"),
        (["config.json", "tf_model.h5"], "weights of TensorFlow", "from_tf=True"),
        (["config.json", "flax_model.msgpack"], "weights of Flax", "from_flax=True"),
        (["model.tflite"], "LiteRT", "--tflite"),
        (["config.json", "weights.npz"], "weights for MLX", "made of"),
        (["open_clip_config.json", "open_clip_pytorch_model.bin"], "an OpenCLIP model", "transformers' form"),
        (["meta.json", "config.cfg"], "a pipeline of spaCy", "its own library"),
        (["parakeet.nemo"], "a NeMo model", "restore_from"),
        (["inference.pdmodel", "inference.pdiparams"], "a PaddlePaddle model", "paddle2onnx"),
        (["consolidated.00.pth", "params.json"], "in its makers' own form", WEIGHTS),
        (["last.pt", "optimizer.pt"], "what torch has saved", "state_dict"),
        (["config.json", "diffusion_pytorch_model.safetensors"], "a part of one", "optimum-cli"),
        # Nothing tells another library's.
        ([WEIGHTS, "optimizer.pt", "tokenizer.json"], "no config.json", "holds config.json"),
        (["optimizer.pt", "training_args.bin"], "no config.json", "holds config.json"),
        (["config.json", "optimizer.pt"], "What it has is not loaded: optimizer.pt.", "save_pretrained wrote"),
    ],
)
def test_files_of_other_libraries(names: list[str], said: str, way: str) -> None:
    with pytest.raises(SourceError) as refused:
        choose_files(names, where="./m")
    assert said in refused.value.message
    assert way in refused.value.hint


@pytest.mark.parametrize(
    ("config", "said", "way"),
    [
        *(
            (LLAMA | {"quantization_config": {"quant_method": method, "bits": 4}}, f"quantized by {method},", "made of")
            for method in ("awq", "bitsandbytes", "compressed-tensors", "fp8", "gptq", "mxfp4")
        ),
        (LLAMA | {"text_config": {"quantization_config": {"quant_method": "gptq"}}}, "quantized by gptq,", "made of"),
        (LLAMA | {"quantization_config": {}}, None, ""),
        (LLAMA | {"quantization": {"group_size": 64, "bits": 4}}, "quantized by MLX,", "dequantized"),
        ({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.36"}, "UNet2DConditionModel", "optimum-cli"),
        ({"architecture": "vit_base_patch16_224", "num_classes": 9}, "timm's, of vit_base", "timm.create_model"),
        ({"architectures": ["BertModel"]}, "names no model_type", "model_type"),
        (LLAMA, None, ""),
    ],
)
def test_configs_of_other_libraries_and_quantized_weights(config: dict[str, Any], said: str | None, way: str) -> None:
    if said is None:
        check_config(config)
        return
    with pytest.raises(ModeldropError) as refused:
        check_config(config)
    assert said in refused.value.message
    assert way in refused.value.hint


@pytest.mark.parametrize(
    ("kind", "architecture", "said"),
    [
        ("zebra", "ZebraModel", "No exporter of this release knows a zebra model (ZebraModel) for feature-extraction"),
        ("zebra", "ZebraForCausalLM", "knows a zebra model (ZebraForCausalLM) for text-generation"),
        ("zebra", "ZebraForImageClassification", "knows a zebra model (ZebraForImageClassification)"),
        ("mamba", "MambaForCausalLM", "knows a mamba model (MambaForCausalLM) for text-generation"),
        ("sam", "SamModel", "SamModel (sam) is not a kind of model that this release builds"),
        ("rf_detr", "RfDetrForObjectDetection", "RfDetrForObjectDetection (rf_detr) is not a kind"),
    ],
)
def test_architectures_that_no_exporter_knows(kind: str, architecture: str, said: str, tmp_path: Path) -> None:
    config = f'{{"model_type": "{kind}", "architectures": ["{architecture}"], "vocab_size": 9}}'
    if kind in {"sam", "rf_detr"}:
        config = config.replace(', "vocab_size": 9', "")
    source = model(tmp_path / "source", **{"config.json": config.encode(), "tokenizer_config.json": b"{}"})
    with pytest.raises(TaskError) as refused:
        check_request(make_request(resolve_source(str(source)), Recipe()))
    assert said in refused.value.message
    assert "optimum" in refused.value.message
    assert "transformers 5" in refused.value.message
    assert "with a program that knows it" in refused.value.hint or "which knows it" in refused.value.hint


def test_a_kind_that_is_no_name(tmp_path: Path) -> None:
    source = model(tmp_path / "source", **{"config.json": b'{"model_type": ["bert"], "architectures": ["BertModel"]}'})
    with pytest.raises(SourceError, match="model_type is not a name"):
        resolve_source(str(source))
