"""The original is what the checkpoint's own library answers: sentence-transformers, or PEFT."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer

from modeldrop.errors import SourceError, TaskError
from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.text_encoders.worker import TextEncoder
from modeldrop.export.preflight.checks import check_request
from modeldrop.export.request import make_request
from modeldrop.export.sentence_config import read_sentence_config
from modeldrop.export.sources import resolve_source
from modeldrop.format.manifest import Embedding, parse_manifest
from modeldrop.format.recipe import Recipe
from tests.export.building import answers
from tests.helpers.checkpoints import HIDDEN, bert, make_embedder, roberta, save_byte_tokenizer, xlm_roberta
from tests.helpers.command_line import Ran, build_here

pytestmark = pytest.mark.heavy

TEXTS = ["THE Harbour at NIGHT", "the harbour at night", "Größe UND Élan", "x"]


def build(source: Path, output: Path, *arguments: str) -> Ran:
    return build_here(source, output, "--variants", "fp32", *arguments)


def test_a_cased_tokenizer_that_is_given_lower_case_and_a_dense_layer_in_a_pickle(tmp_path: Path) -> None:
    source = make_embedder(roberta(tmp_path / "source"), {"pooling_mode_mean_tokens": True}, dense=True, normalize=True)
    (source / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128, "do_lower_case": True}))
    dense = source / "2_Dense/model.safetensors"
    torch.save(load_file(dense), dense.with_name("pytorch_model.bin"))
    dense.unlink()
    (source / "model_head.pkl").write_bytes(pickle.dumps("a classifier"))

    ran = build(source, tmp_path / "out", "--allow-pickle")
    assert ran.code == 0, ran.err
    assert "in no graph: model_head.pkl" in ran.err
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    assert manifest.source.left_out == ("model_head.pkl",)
    assert "model_head.pkl" in (tmp_path / "out/report.html").read_text("utf-8")
    theirs = SentenceTransformer(str(source), device="cpu").encode(TEXTS)
    assert np.allclose(theirs[0], theirs[1])
    assert np.allclose(answers(tmp_path / "out", TEXTS, "sentence_embedding"), theirs, atol=1e-5)
    version = SentenceTransformer(str(tmp_path / "out"), backend="onnx", device="cpu")
    assert np.allclose(version.encode(TEXTS), theirs, atol=1e-5)


def with_prompts(source: Path, *, include: bool = True, **more: object) -> Path:
    make_embedder(source, {"pooling_mode_mean_tokens": True, "include_prompt": include}, dense=False, normalize=True)
    plain = {"prompts": {"query": "Find: ", "document": ""}, "similarity_fn_name": "dot"} | more
    (source / "config_sentence_transformers.json").write_text(json.dumps(plain))
    return source


def test_the_default_prompt_and_a_cut_of_the_vectors(tmp_path: Path) -> None:
    source = with_prompts(bert(tmp_path / "source"), default_prompt_name="query", truncate_dim=20)
    ran = build(source, tmp_path / "out")
    assert ran.code == 0, ran.err
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    assert manifest.embedding == Embedding(20, "dot", {"query": "Find: "}, "query")
    assert manifest.embedding.prompt == "Find: "
    theirs = SentenceTransformer(str(source), device="cpu")
    ours = answers(tmp_path / "out", [f"Find: {text}" for text in TEXTS], "sentence_embedding")
    assert ours.shape == (len(TEXTS), 20)
    assert np.allclose(ours, theirs.encode(TEXTS), atol=1e-5)
    version = SentenceTransformer(str(tmp_path / "out"), backend="onnx", device="cpu")
    assert np.allclose(version.encode(TEXTS), theirs.encode(TEXTS), atol=1e-5)
    for case in manifest.golden.cases:  # the answers that a container asks for again are those of encode
        expected = theirs.encode([case.text])[0]
        assert np.allclose(case.values, expected, atol=1e-5), case.text
    assert "Find: " in (tmp_path / "out/report.html").read_text("utf-8")


def test_words_of_a_prompt_that_pooling_leaves_out(tmp_path: Path) -> None:
    source = with_prompts(bert(tmp_path / "source"), include=False)
    ran = build(source, tmp_path / "out")
    assert ran.code == 8, ran.err
    assert "leaves out the words of the prompts (query)" in ran.err
    assert "Remove modules.json from a copy" in ran.err
    (source / "modules.json").unlink()
    ran = build(source, tmp_path / "out")
    assert ran.code == 0, ran.err
    with torch.inference_mode():
        inputs = transformers.AutoTokenizer.from_pretrained(source)(TEXTS, padding=True, return_tensors="pt")
        theirs = transformers.AutoModel.from_pretrained(source)(**inputs).last_hidden_state.numpy()
    real = inputs["attention_mask"].numpy().astype(bool)
    assert np.allclose(answers(tmp_path / "out", TEXTS, "last_hidden_state")[real], theirs[real], atol=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"default_prompt_name": "passage"}, "the default prompt 'passage', which is none of its prompts"),
        ({"truncate_dim": "20"}, "no valid truncate_dim: '20'"),
        ({"truncate_dim": 0}, "cuts vectors to 0 numbers"),
        ({"prompts": {"query": 1}}, "a prompt that is no text"),
    ],
)
def test_a_damaged_sentence_config(more: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_sentence_config({"prompts": {"query": "q: "}} | more)


def test_a_transformer_in_a_folder_of_its_own(tmp_path: Path) -> None:
    source = make_embedder(bert(tmp_path / "source"), {"pooling_mode_cls_token": True}, dense=True, normalize=False)
    inner = source / "0_Transformer"
    inner.mkdir()
    for path in [path for path in source.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(inner / path.name)
    modules = json.loads((source / "modules.json").read_text())
    modules[0]["path"] = inner.name
    # As releases since 5.4 name their classes, which those before cannot import.
    for module, own in zip(modules, ("base.modules.transformer", "sentence_transformer.modules.pooling"), strict=False):
        module["type"] = module["type"].replace("models", own)
    (source / "modules.json").write_text(json.dumps(modules))
    pooling = {"embedding_dimension": HIDDEN, "pooling_mode": "cls", "include_prompt": True}
    (source / "1_Pooling/config.json").write_text(json.dumps(pooling))
    theirs = SentenceTransformer(str(source), device="cpu").encode(TEXTS)
    ran = build(source, tmp_path / "out")
    assert ran.code == 0, ran.err
    assert np.allclose(answers(tmp_path / "out", TEXTS, "sentence_embedding"), theirs, atol=1e-5)
    for module in json.loads((tmp_path / "out/modules.json").read_text()):
        assert re.fullmatch(r"sentence_transformers\.models\.[A-Z][a-z]+", module["type"])
    pooling = json.loads((tmp_path / "out/1_Pooling/config.json").read_text())
    assert pooling["pooling_mode_cls_token"]
    assert pooling["word_embedding_dimension"] == HIDDEN
    version = SentenceTransformer(str(tmp_path / "out"), backend="onnx", device="cpu")
    assert np.allclose(version.encode(TEXTS), theirs, atol=1e-5)


def test_embedding_gemma_and_a_config_for_torchscript(tmp_path: Path) -> None:
    torch.manual_seed(0)
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    tokenizer = save_byte_tokenizer(tmp_path / "source", special, "<bos> $A <eos>")
    config = transformers.Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, intermediate_size=128, initializer_range=0.2,
        max_position_embeddings=256, sliding_window=32,
        query_pre_attn_scalar=16, use_bidirectional_attention=True, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    transformers.Gemma3TextModel(config).save_pretrained(tmp_path / "source")
    source = make_embedder(tmp_path / "source", {"pooling_mode_mean_tokens": True}, dense=True, normalize=True)
    plain = json.loads((source / "config.json").read_text()) | {"sliding_window": 32}  # it is halved where it is read
    (source / "config.json").write_text(json.dumps(plain))
    texts = [*TEXTS, "night " * 100]
    theirs = SentenceTransformer(str(source), device="cpu").encode(texts)
    (source / "config.json").write_text(json.dumps(plain | {"torchscript": True}))
    ran = build(source, tmp_path / "out")
    assert ran.code == 0, ran.err
    assert np.allclose(answers(tmp_path / "out", texts, "sentence_embedding"), theirs, atol=1e-4)


def test_a_cross_encoder_as_sentence_transformers_saves_it(tmp_path: Path) -> None:
    xlm_roberta(tmp_path / "trained", "XLMRobertaForSequenceClassification")
    original = CrossEncoder(str(tmp_path / "trained"), device="cpu")
    original.save_pretrained(str(tmp_path / "source"))
    assert (tmp_path / "source/modules.json").is_file()
    ran = build(tmp_path / "source", tmp_path / "out")
    assert ran.code == 0, ran.err
    pairs = [("the harbour at night", text) for text in TEXTS]
    version = CrossEncoder(str(tmp_path / "out"), backend="onnx", device="cpu")
    assert np.allclose(version.predict(pairs), original.predict(pairs), atol=1e-5)


def test_texts_are_cut_to_the_positions_that_are_there(tmp_path: Path) -> None:
    trained = roberta(tmp_path / "source")  # its tokenizer is data2vec's
    source = tmp_path / "data2vec"
    plain = transformers.RobertaConfig.from_pretrained(trained).to_dict()
    del plain["model_type"], plain["architectures"]
    transformers.Data2VecTextModel(transformers.Data2VecTextConfig(**plain)).save_pretrained(source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    tokenizer.model_max_length = plain["max_position_embeddings"]
    tokenizer.save_pretrained(source)
    model = TextEncoder(Checkpoint(source, "feature-extraction"))
    longest = plain["max_position_embeddings"] - plain["pad_token_id"] - 1
    assert model.max_length == longest
    (run,) = model.runs([Sample(("night " * 1000,))])
    assert run.answer.values.shape[0] == longest
    with pytest.raises(TaskError, match=f"this model has {longest} positions"):
        TextEncoder(Checkpoint(source, "feature-extraction", max_length=longest + 1))


def modules(*kinds: str) -> list[dict[str, object]]:
    return [{"idx": index, "name": str(index), "path": "", "type": f"x.{kind}"} for index, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (modules("MLMTransformer", "SpladePooling"), "a sparse encoder"),
        (modules("StaticEmbedding"), "modules.json describes static embeddings, and config.json does not"),
        (modules("SparseStaticEmbedding", "SpladePooling"), "a sparse encoder"),
        (modules("Transformer", "Pooling", "LayerNorm"), "cannot be put into the graph: LayerNorm"),
        (modules("Transformer", "Normalize", "Pooling"), "an order that is not known: Transformer, Normalize, Pooling"),
        (modules("Router", "Pooling"), "two encoders behind a router"),
        (modules(), "an order that is not known: none"),
        (["Transformer"], "an entry without type and path"),
    ],
)
def test_modules_that_no_graph_has_are_refused_before_any_work(
    tmp_path: Path, document: list[object], message: str
) -> None:
    source = bert(tmp_path / "source")
    (source / "modules.json").write_text(json.dumps(document))
    request = make_request(resolve_source(str(source)), Recipe())
    with pytest.raises(TaskError, match=message):
        check_request(request)


def test_an_adapter_is_refused_and_merged_as_the_message_says(tmp_path: Path) -> None:
    base, adapter, merged = (tmp_path / name for name in ("base", "adapter", "merged"))
    bert(base)
    options = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    tuned = peft.get_peft_model(transformers.AutoModel.from_pretrained(base), options)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(str(adapter))
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(adapter)
    ran = build(adapter, tmp_path / "out")
    assert ran.code == 7, ran.err
    assert "holds an adapter" in ran.err
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (base / name).write_bytes((adapter / name).read_bytes())
    ran = build(base, tmp_path / "out")
    assert ran.code == 7, ran.err
    assert "beside its base model" in ran.err

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (base / name).unlink()
    call = ran.err.partition("is written: peft.")[2].partition("(FOLDER)")[0]
    kind, method = call.split(".")
    loaded = getattr(getattr(peft, kind), method)(adapter)
    loaded.merge_and_unload().save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    ran = build(merged, tmp_path / "out")
    assert ran.code == 0, ran.err
    with torch.inference_mode():
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        theirs = tuned.eval()(**inputs).last_hidden_state.numpy()
    ours = answers(tmp_path / "out", TEXTS, "last_hidden_state")
    real = inputs["attention_mask"].numpy().astype(bool)
    assert np.allclose(ours[real], theirs[real], atol=1e-4)
