"""Models that are more than a text encoder: several graphs, a past, pictures. Small ones of real architectures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

from modeldrop.export.models.family import CLASSES, TOKENS
from modeldrop.fetcher.self_test import self_test
from tests.export.building import Built, build
from tests.helpers.checkpoints import clip, llama, qwen, t5, vit, whisper

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.heavy

_TEMPLATE = "{% for one in messages %}{{ one['role'] }}: {{ one['content'] }}\n{% endfor %}"


def passes_its_self_test(built: Built) -> None:
    for variant in built.manifest.variants:
        outcome = self_test(built.output, built.manifest, variant)
        assert outcome.passed, outcome.detail
        assert outcome.value == pytest.approx(built.manifest.golden.metrics[variant.name][outcome.metric], abs=1e-5)


def with_parts_in_one(source: Path, part: str) -> Path:
    """A source with the settings of its processor where transformers 5 keeps them, and nowhere else."""
    own = source / "preprocessor_config.json"
    (source / "processor_config.json").write_text(json.dumps({part: json.loads(own.read_text())}))
    own.unlink()
    return source


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("translator")
    return build(folder, t5(folder / "source"), TOKENS, ("o1", "fp16", "int8", "openvino-fp16"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("writer")
    return build(folder, llama(folder / "source"), TOKENS, ("int8-accurate", "int4", "openvino-int8"))


@pytest.fixture(scope="module")
def chatter(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("chatter")
    source = qwen(folder / "source")
    # As transformers 5 saves it: the template in a file of its own, a class that transformers 4 does not know.
    (source / "chat_template.jinja").write_text(_TEMPLATE)
    path = source / "tokenizer_config.json"
    plain = json.loads(path.read_text()) | {"tokenizer_class": "TokenizersBackend"}
    plain.pop("model_input_names", None)
    path.write_text(json.dumps(plain))
    return build(folder, source, TOKENS, ("int8",))


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("seer")
    return build(folder, vit(folder / "source"), (*CLASSES, "top5"), ("fp16", "int8-avx2"))


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("matcher")
    return build(
        folder, with_parts_in_one(clip(folder / "source"), "image_processor"), (*CLASSES, "top5"), ("int8-accurate",)
    )


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("listener")
    return build(folder, with_parts_in_one(whisper(folder / "source"), "feature_extractor"), TOKENS, ("int8",))


def test_an_encoder_and_its_decoder_are_one_version(translator: Built) -> None:
    manifest = translator.manifest
    assert manifest.task == "text2text-generation"
    fp32, _, _, int8, _ = manifest.variants
    assert int8.graphs == {
        "encoder_model": "onnx/encoder_model_quantized.onnx",
        "decoder_model_merged": "onnx/decoder_model_merged_quantized.onnx",
    }
    assert set(int8.graphs.values()) <= set(int8.files)
    assert not set(int8.graphs.values()) & set(fp32.files)
    assert [tensor.name for tensor in int8.outputs] == ["last_hidden_state"]
    assert int8.others[0].outputs[0].name == "logits"
    assert {"use_cache_branch", "past_key_values.1.encoder.value"} <= {one.name for one in int8.others[0].inputs}
    # What optimum writes besides is not carried along.
    assert {path.name for path in (translator.output / "onnx").iterdir()} == {
        f"{role}{suffix}.onnx" for role in int8.graphs for suffix in ("", "_O1", "_fp16", "_quantized")
    }


def test_both_branches_of_a_merged_decoder_are_quantized_and_halved(translator: Built) -> None:
    import onnx

    whole = translator.weights("fp32", "decoder_model_merged")
    assert translator.weights("fp16", "decoder_model_merged") < 0.75 * whole
    graph = onnx.load(translator.output / "onnx" / "decoder_model_merged_quantized.onnx").graph
    for branch in graph.node[0].attribute:
        kinds = [node.op_type for node in branch.g.node]
        assert kinds.count("MatMulInteger") > 10, branch.name


@pytest.mark.parametrize("family", ["translator", "writer", "chatter", "listener"])
def test_what_writes_is_compared_token_by_token(family: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(family)
    fp32, *others = built.manifest.variants
    assert set(fp32.fidelity.metrics) == set(TOKENS)
    assert fp32.fidelity.metrics["greedy_prefix"] == 1.0
    assert fp32.fidelity.metrics["perplexity_gap"] < 1e-4
    for variant in others:
        assert variant.fidelity.metrics["cosine_mean"] > 0.5
        assert variant.fidelity.metrics["greedy_prefix"] > 0
    assert all(variant.speed is not None for variant in built.manifest.variants)


def test_the_oldest_onnxruntime_follows_from_the_operators(writer: Built) -> None:
    """8-bit blocks have IR 8 and opset 18, and yet 1.21 does not open them."""
    oldest = {variant.name: variant.min_onnxruntime for variant in writer.manifest.variants}
    assert oldest == {"fp32": "1.15", "int8-accurate": "1.22", "int4": "1.20", "openvino-int8": ""}


def test_a_chat_template_is_where_old_and_new_programs_look(chatter: Built) -> None:
    config = json.loads((chatter.output / "tokenizer_config.json").read_text())
    assert config["chat_template"] == (chatter.output / "chat_template.jinja").read_text() == _TEMPLATE
    tokenizer = transformers.AutoTokenizer.from_pretrained(chatter.output)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "user: hi\n"
    assert set(tokenizer("hi")) == {"input_ids", "attention_mask"}  # generate() refuses others


@pytest.mark.parametrize("family", ["writer", "chatter"])
def test_a_language_model_says_how_onnxruntime_genai_runs_it(family: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(family)
    plain = json.loads((built.output / "genai_config.json").read_text())["model"]
    decoder, graph = plain["decoder"], built.manifest.variants[0]
    assert decoder["filename"] == graph.model
    assert {name.replace("%d", "1") for name in decoder["inputs"].values()} <= {one.name for one in graph.inputs}
    assert {name.replace("%d", "1") for name in decoder["outputs"].values()} <= {one.name for one in graph.outputs}
    assert (decoder["num_key_value_heads"], decoder["head_size"], decoder["num_hidden_layers"]) == (2, 16, 2)
    config = json.loads((built.output / "config.json").read_text())
    assert (plain["vocab_size"], plain["eos_token_id"]) == (config["vocab_size"], config["eos_token_id"])
    assert plain["context_length"] == built.manifest.max_length


def test_openvino_has_a_decoder_in_two_graphs(translator: Built) -> None:
    found = translator.manifest.variant("openvino-fp16")
    assert found is not None
    assert found.graphs == {
        role: f"openvino/openvino_{role}.xml" for role in ("encoder_model", "decoder_model", "decoder_with_past_model")
    }
    first, later = ({tensor.name for tensor in graph.inputs} for graph in found.others)
    assert first == {"input_ids", "encoder_hidden_states", "encoder_attention_mask"}
    assert {"past_key_values.1.encoder.value", "past_key_values.1.decoder.value"} < later
    assert "encoder_hidden_states" not in later


def test_openvino_keeps_the_past_of_a_language_model_as_a_state(writer: Built) -> None:
    found = writer.manifest.variant("openvino-int8")
    assert found is not None
    assert (found.model, found.others) == ("openvino/openvino_model_qint8_quantized.xml", ())
    assert {tensor.name for tensor in found.inputs} == {"input_ids", "attention_mask", "position_ids", "beam_idx"}
    assert [tensor.name for tensor in found.outputs] == ["logits"]


@pytest.mark.parametrize("family", ["translator", "writer"])
def test_openvinos_tokenizer_gives_the_same_ids_and_texts(family: str, request: pytest.FixtureRequest) -> None:
    import openvino
    import openvino_tokenizers  # noqa: F401  it tells openvino of its operators
    import tokenizers

    built: Built = request.getfixturevalue(family)
    (found,) = (variant for variant in built.manifest.variants if variant.name.startswith("openvino"))
    for name in ("openvino/openvino_tokenizer.xml", "openvino/openvino_detokenizer.bin"):
        assert name in found.files
        assert name not in built.manifest.variants[0].files
    core, folder = openvino.Core(), built.output / "openvino"
    texts = ["Größe, ΣΊΣΥΦΟΣ and 雨", "long " * 1000]
    cut = core.compile_model(folder / "openvino_tokenizer.xml", "CPU")
    ids = [cut([text])["input_ids"] for text in texts]
    backend = tokenizers.Tokenizer.from_file(str(built.output / "tokenizer.json"))
    assert [one[0].tolist() for one in ids] == [backend.encode(text).ids for text in texts]
    join = core.compile_model(folder / "openvino_detokenizer.xml", "CPU")
    assert join(ids[0])["string_output"][0] == texts[0]
    assert "openvino-tokenizers" in built.manifest.toolchain


@pytest.mark.parametrize("family", ["translator", "writer", "chatter", "seer", "matcher", "listener"])
def test_the_self_test_knows_every_kind(family: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(family)
    assert not built.manifest.golden.cases
    assert (built.output / "manifest.json").stat().st_size < 400_000
    passes_its_self_test(built)


def test_the_self_test_finds_a_decoder_that_is_broken(translator: Built, tmp_path: Path) -> None:
    import shutil

    import onnx

    folder = tmp_path / "broken"
    shutil.copytree(translator.output, folder)
    path = folder / "onnx" / "decoder_model_merged_quantized.onnx"
    graph = onnx.load(path)
    weights = max((one for one in graph.graph.initializer if one.data_type == 3), key=lambda one: len(one.raw_data))
    weights.raw_data = bytes(len(weights.raw_data))
    onnx.save(graph, path)
    variant = translator.manifest.variant("int8")
    assert variant is not None
    strict = variant._replace(fidelity=variant.fidelity._replace(thresholds={"cosine_min": 0.5}))
    assert self_test(translator.output, translator.manifest, strict).passed
    outcome = self_test(folder, translator.manifest, strict)
    assert (outcome.passed, outcome.metric) == (False, "cosine_min")


def test_optimum_translates_as_pytorch_does(translator: Built) -> None:
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    model = ORTModelForSeq2SeqLM.from_pretrained(translator.output, subfolder="onnx")
    assert _written(model, translator.output) == _written(
        transformers.AutoModelForSeq2SeqLM.from_pretrained(translator.source), translator.source
    )


def test_the_example_service_translates_as_pytorch_does(translator: Built) -> None:
    """examples/service decodes without transformers, several texts at once."""
    from examples.service.modelservice.engines import Opened
    from examples.service.modelservice.generating import Writer
    from examples.service.modelservice.graphs import open_graph
    from examples.service.modelservice.tokens import Tokens

    graphs = {
        role: open_graph(translator.output / path, 1) for role, path in translator.manifest.variants[0].graphs.items()
    }
    tokens = Tokens(translator.output, 64)
    opened = Opened(translator.output, graphs, tokens, (), ("yes", "no"), 8)
    texts = ["the harbour at night", "yes", "a rather longer text than the others, so that they are padded"]
    written = Writer(opened).write(tokens.batch(texts), 12)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(translator.source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(translator.source)
    for text, one in zip(texts, written, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            (ids,) = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        assert one.text == tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert 0 < one.probability <= 1


@pytest.mark.parametrize("family", ["writer", "chatter"])
def test_optimum_writes_as_pytorch_does(family: str, request: pytest.FixtureRequest) -> None:
    from optimum.onnxruntime import ORTModelForCausalLM

    writer: Built = request.getfixturevalue(family)
    model = ORTModelForCausalLM.from_pretrained(writer.output, subfolder="onnx", file_name="model.onnx")
    assert _written(model, writer.output) == _written(
        transformers.AutoModelForCausalLM.from_pretrained(writer.source), writer.output
    )


def _written(model: Any, tokenizer: Path) -> list[int]:
    inputs = transformers.AutoTokenizer.from_pretrained(tokenizer)("the harbour at night", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    return list(ids[0].tolist())


def test_optimum_sees_as_pytorch_does(seer: Built) -> None:
    from optimum.onnxruntime import ORTModelForImageClassification

    pixels = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    model = ORTModelForImageClassification.from_pretrained(seer.output, subfolder="onnx", file_name="model.onnx")
    original = transformers.AutoModelForImageClassification.from_pretrained(seer.source)
    with torch.inference_mode():
        mine, its = model(pixel_values=pixels).logits, original(pixel_values=pixels).logits
    assert np.allclose(mine.numpy(), its.numpy(), atol=1e-4)


def test_pictures_are_matched_with_texts_as_pytorch_does(matcher: Built) -> None:
    import onnxruntime

    (fp32, accurate) = matcher.manifest.variants
    assert matcher.manifest.task == "zero-shot-image-classification"
    assert [tensor.name for tensor in fp32.outputs][-2:] == ["text_embeds", "image_embeds"]
    assert accurate.fidelity.metrics["cosine_mean"] > 0.9
    pixels = torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    tokenizer = transformers.AutoTokenizer.from_pretrained(matcher.output)
    texts = tokenizer(["a cat", "the harbour at night"], padding=True, return_tensors="pt")
    inputs = {"pixel_values": pixels, "input_ids": texts["input_ids"], "attention_mask": texts["attention_mask"]}
    with torch.inference_mode():
        its = transformers.CLIPModel.from_pretrained(matcher.source)(**inputs).logits_per_image
    session = onnxruntime.InferenceSession(matcher.output / fp32.model)
    (mine,) = session.run(["logits_per_image"], {name: tensor.numpy() for name, tensor in inputs.items()})
    assert np.allclose(mine, its.numpy(), atol=1e-4)


def test_pictures_are_classified(seer: Built) -> None:
    manifest = seer.manifest
    assert (manifest.task, len(manifest.labels), manifest.max_length) == ("image-classification", 7, None)
    assert set(manifest.variants[0].fidelity.metrics) == {*CLASSES, "top5"}
    assert (seer.output / "preprocessor_config.json").is_file()
    assert seer.weights("fp16", "model") < 0.6 * seer.weights("fp32", "model")


@pytest.mark.rounds  # of a listener to half a minute
def test_optimum_hears_as_pytorch_does(listener: Built) -> None:
    from optimum.onnxruntime import ORTModelForSpeechSeq2Seq

    assert listener.manifest.task == "automatic-speech-recognition"
    assert [tensor.name for tensor in listener.manifest.variants[0].inputs] == ["input_features"]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(listener.output)
    sound = np.sin(np.arange(2 * extractor.sampling_rate) / 20)
    features = extractor(sound, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"]
    model = ORTModelForSpeechSeq2Seq.from_pretrained(listener.output, subfolder="onnx")
    original = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(listener.source)
    with torch.inference_mode():
        mine, its = (one.generate(features, max_new_tokens=10, do_sample=False) for one in (model, original))
    assert mine.tolist() == its.tolist()
