"""Which files of a checkpoint are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import SourceError, UsageError
from modeldrop.export.sources.file_choice import (
    SAFETENSORS_INDEX,
    ChosenFiles,
    FileRules,
    check_name,
    choose_files,
    licence_in,
    with_shards,
)
from modeldrop.export.sources.hub_names import check_repository, check_revision, near_spelling

MINILM = [
    ".gitattributes",
    "1_Pooling/config.json",
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "data_config.json",
    "model.safetensors",
    "modules.json",
    "onnx/model.onnx",
    "onnx/model_O4.onnx",
    "openvino/openvino_model.bin",
    "openvino/openvino_model.xml",
    "pytorch_model.bin",
    "rust_model.ot",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tf_model.h5",
    "tokenizer.json",
    "tokenizer_config.json",
    "train_script.py",
    "vocab.txt",
]

TRAINED = [
    "config.json",
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "training_args.bin",
    "tokenizer.json",
    "checkpoint-500/config.json",
    "checkpoint-500/model.safetensors",
    "runs/events.out.tfevents.1",
    "model.fp16.safetensors",
    "flax_model.msgpack",
    "LICENSE.txt",
]


def names(there: list[str], **options: bool) -> set[str]:
    return set(choose_files(there, where="acme/m", rules=FileRules(**options)).names)  # type: ignore[arg-type]


def test_takes_exactly_what_a_sentence_transformers_model_needs() -> None:
    dropped = "gitattributes data_config onnx/ openvino/ pytorch_model rust_model tf_model train_script"
    expected = {name for name in MINILM if not any(part in name for part in dropped.split())}
    assert names(MINILM) == expected


def test_leaves_out_what_a_training_run_writes() -> None:
    assert names(TRAINED) == {"config.json", "model.safetensors", "tokenizer.json", "LICENSE.txt"}


def test_papers_do_not_influence_the_build() -> None:
    choice = choose_files([*TRAINED, "README.md"], where="acme/m")
    assert set(choice.papers) == {"LICENSE.txt", "README.md"}
    assert set(choice.building) == {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "source.spm",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "chat_template.jinja",
        "chat_template.json",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "additional_chat_templates/tool.jinja",
        "README.md",
        "LICENSE",
    ],
)
def test_takes(name: str) -> None:
    assert name in names(["config.json", "model.safetensors", name])


@pytest.mark.parametrize(
    "name",
    ["onnx/config.json", "nested/tokenizer.json", "modeling.py", "x/y.py", "model.ckpt", ".env", "a.pkl"],
)
def test_does_not_take(name: str) -> None:
    assert name not in names(["config.json", "model.safetensors", name])


@pytest.mark.parametrize(
    ("there", "left_out"),
    [
        (MINILM, ()),
        (TRAINED, ()),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", SAFETENSORS_INDEX], ()),
        (["model.safetensors", "consolidated.safetensors", "consolidated.00.pth", "scaler.pt"], ()),
        (["model.safetensors", "model_head.pkl", "config_setfit.json"], ("model_head.pkl",)),
        (["model.safetensors", "model_head.skops"], ("model_head.skops",)),
        (["model.safetensors", "colbert_linear.pt", "sparse_linear.pt"], ("colbert_linear.pt", "sparse_linear.pt")),
        (["model.safetensors", "2_Dense/config.json", "2_Dense/linear.pt"], ("2_Dense/linear.pt",)),
    ],
)
def test_names_what_is_learned_and_in_no_graph(there: list[str], left_out: tuple[str, ...]) -> None:
    assert choose_files(["config.json", *there], where="x").left_out == left_out


def test_takes_a_transformer_out_of_its_own_folder() -> None:
    mine = ["config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json", "sentence_bert_config.json"]
    there = ["modules.json", "tokenizer.json", "1_Pooling/config.json", *(f"0_Transformer/{name}" for name in mine)]
    choice = choose_files(there, where="x")
    assert {choice.target(name) for name in choice.names} == {
        "config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json", "modules.json",
        "1_Pooling/config.json",
    }  # fmt: skip
    assert "tokenizer.json" not in choice.names
    assert choice.left_out == ()
    shards = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    shard = "0_Transformer/model-00001-of-00001.safetensors"
    sharded = choose_files(
        ["modules.json", "0_Transformer/config.json", f"0_Transformer/{SAFETENSORS_INDEX}", shard], where="x"
    )
    assert with_shards(sharded, shards, [shard], where="x").weights == (shard,)


def test_takes_code_only_if_trusted() -> None:
    assert "modeling.py" in names(["config.json", "model.safetensors", "modeling.py"], trust_remote_code=True)


def test_refuses_only_pickles() -> None:
    with pytest.raises(SourceError, match=r"only pickle weights \(pytorch_model.bin\)") as caught:
        names(["config.json", "pytorch_model.bin"])
    assert "allow_pickle = true" in caught.value.hint
    assert "pytorch_model.bin" in names(["config.json", "pytorch_model.bin"], allow_pickle=True)


def test_prefers_safetensors_even_where_pickles_are_allowed() -> None:
    there = ["config.json", "pytorch_model.bin", "model.safetensors"]
    assert names(there, allow_pickle=True) == {"config.json", "model.safetensors"}


def test_refuses_a_dense_layer_in_a_pickle() -> None:
    there = ["config.json", "model.safetensors", "2_Dense/config.json", "2_Dense/pytorch_model.bin"]
    with pytest.raises(SourceError, match=r"2_Dense/pytorch_model\.bin"):
        names(there)
    assert "2_Dense/pytorch_model.bin" in names(there, allow_pickle=True)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (["model.safetensors"], r"no config\.json"),
        (["config.json", "tf_model.h5"], r"no weights.*tf_model\.h5"),
        (["config.json", "a.onnx", "b.onnx"], r"2 ONNX files.*a\.onnx, b\.onnx"),
        (["config.json", "onnx/encoder_model.onnx", "onnx/decoder_model.onnx"], r"no onnx/decoder_model_merged"),
        (["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"], r"holds an adapter \(adapter_config"),
        (["config.json", "model.safetensors", "adapter_config.json"], "an adapter .* beside its base model"),
        (
            ["config.json", "openvino_encoder_model.bin", "openvino_encoder_model.xml"],
            "no weights but OpenVINO graphs of parts of a model",
        ),
        (["config.json", "openvino/openvino_model.xml"], r"there is no openvino/openvino_model\.bin"),
        (
            ["config.json", "openvino_model_a.bin", "openvino_model_a.xml", "openvino_model_b.xml"],
            r"2 OpenVINO graphs and none called openvino_model\.xml",
        ),
        (["config.json"], "no weights"),
    ],
)
def test_refuses_what_is_no_checkpoint(there: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        names(there)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../b", "a//b", "./a", "a\\b", "a\nb", "", "a/"])
def test_refuses_unsafe_names(name: str) -> None:
    with pytest.raises(SourceError, match="not a path inside"):
        names(["config.json", "model.safetensors", name])


@pytest.mark.parametrize(
    ("more", "graph", "there"),
    [
        ([], "", "openvino/openvino_model.xml"),
        (["openvino_model.xml", "openvino_model.bin"], "", "openvino/openvino_model.xml"),
        (["openvino/openvino_model_qint8_quantized.xml"], "", "openvino/openvino_model.xml"),
        (["a/mine.xml", "a/mine.bin", "onnx/model.onnx", "model.safetensors"], "a/mine.xml", "a/mine.xml"),
        (["onnx/model.onnx"], "", ""),
        (["model.safetensors"], "", ""),
    ],
)
def test_takes_an_openvino_graph_where_there_is_nothing_else(more: list[str], graph: str, there: str) -> None:
    whole = ["config.json", "openvino/openvino_model.bin", "openvino/openvino_model.xml", "openvino_tokenizer.xml"]
    choice = choose_files([*whole, *more], where="acme/m", rules=FileRules(graph=graph))
    assert choice.openvino == there
    if there:
        weights = {there, there.replace(".xml", ".bin")}
        assert (choice.worker, set(choice.weights)) == ("adopt_openvino", weights)
        handed = {choice.target(name) for name in weights}
        assert handed == {"openvino/openvino_model.xml", "openvino/openvino_model.bin"}


def test_shards_come_from_the_index() -> None:
    there = [
        "config.json",
        SAFETENSORS_INDEX,
        "model-00001-of-00002.safetensors",
        "odd.safetensors",
        "extra.safetensors",
    ]
    choice = choose_files(there, where="acme/m")
    assert choice.index == SAFETENSORS_INDEX
    assert choice.weights == ()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "odd.safetensors"}}
    assert with_shards(choice, index, there, where="acme/m").weights == (
        "model-00001-of-00002.safetensors",
        "odd.safetensors",
    )


def test_one_whole_file_wins_over_shards() -> None:
    choice = choose_files(["config.json", SAFETENSORS_INDEX, "model.safetensors", "m-1.safetensors"], where="acme/m")
    assert choice.names == ("config.json", "model.safetensors")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "no weight_map"),
        ({}, "no weight_map"),
        ({"weight_map": {}}, "no weight_map"),
        ({"weight_map": {"a": "evil.bin"}}, "'evil.bin' as a shard"),
        ({"weight_map": {"a": "../m.safetensors"}}, "as a shard"),
        ({"weight_map": {"a": 7}}, "as a shard"),
        ({"weight_map": {"a": "m-2.safetensors"}}, r"lacks m-2\.safetensors: 1 of the 1 shards"),
    ],
)
def test_refuses_a_bad_index(index: object, message: str) -> None:
    there = ["config.json", SAFETENSORS_INDEX, "m-1.safetensors", "evil.bin"]
    with pytest.raises(SourceError, match=message):
        with_shards(choose_files(there, where="acme/m"), index, there, where="acme/m")


@given(st.lists(st.text(max_size=20), max_size=8))
def test_whatever_is_chosen_was_there_and_is_safe(there: list[str]) -> None:
    try:
        choice = choose_files([*there, "config.json", "model.safetensors"], where="acme/m")
    except SourceError:
        return
    assert isinstance(choice, ChosenFiles)
    for name in choice.names:
        assert name in {*there, "config.json", "model.safetensors"}
        check_name(name, "acme/m")


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- x\n---\n# M", "apache-2.0"),
        ("---\r\ntags: []\r\nlicense: 'mit' # ours\r\n---\r\n", "mit"),
        ('---\nlicense: ["mit"]\n---\n', "mit"),
        ("---\nlicense:\n- mit\n- gpl\n---\n", "mit"),
        ("---\nlicense:\n---\n", None),
        ("---\nx:\n  license: no\n---\nlicense: no", None),
        ("license: no", None),
        ("", None),
        ("---", None),
        ("---\nlicense:", None),
    ],
)
def test_licence(readme: str, licence: str | None) -> None:
    assert licence_in(readme) == licence


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("https://huggingface.co/acme/m", "acme/m"),
        ("https://huggingface.co/acme/m/tree/v1", "acme/m@v1"),
        ("hf://acme/m", "acme/m"),
        ("hf:acme/m.git", "acme/m"),
        ("hf:models--acme--m", "acme/m"),
        ("hf:acme/m:v1", "acme/m@v1"),
        ("hf:acme/my model", "acme/my-model"),
        ("hf:acme\\m", "acme/m"),
    ],
)
def test_near_spelling(spec: str, meant: str) -> None:
    assert near_spelling(spec).startswith(f"Did you mean {meant}?")


@pytest.mark.parametrize("name", ["m", "a/b/c", "-a/b", "a/b-", "a/b--c", "a/b..c", "a/b.git", "ä/b", "a/" + "b" * 97])
def test_refuses_malformed_ids(name: str) -> None:
    with pytest.raises(UsageError, match="not a Hugging Face model id"):
        check_repository(name, name)


@pytest.mark.parametrize("revision", ["", "../x", "a//b", "a b", "/x", "a:b", "."])
def test_refuses_malformed_revisions(revision: str) -> None:
    with pytest.raises(UsageError, match="not a revision"):
        check_revision(revision, "acme/m")


def test_takes_the_names_that_the_hub_takes() -> None:
    for name in ("acme/m", "sentence-transformers/all-MiniLM-L6-v2", "a_b/c.d", "BAAI/bge-m3"):
        check_repository(name, name)
    for revision in ("main", "v1.0", "refs/pr/1", "feature/x", "0" * 40):
        check_revision(revision, "acme/m")
