"""Tasks of texts besides dense vectors and classes: answers in a passage, hidden words, sparse vectors."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer

from modeldrop.export.models.family import CLASSES, SPANS
from modeldrop.fetcher.self_test import self_test
from modeldrop.format.manifest import parse_manifest
from modeldrop.inference.metrics import best_span
from tests.export.building import COLUMNS, Built, build
from tests.helpers.checkpoints import bert, make_colbert, make_sparse, roberta, static_embedder
from tests.helpers.command_line import modeldrop
from tests.helpers.second_exporter import PYTHON

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.heavy,
    # transformers' pipeline makes arrays of tokenizers' encodings as numpy 1 did.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

PASSAGE = "The harbour was built in four years, and the lighthouse in front of it in twelve more, under the next king."
QUESTIONS = ("How long did the harbour take?", "Who was king?", "x")
MASKED = ("The [MASK] at night is quiet.", "Fold the [MASK] four times, then let it rest for an [MASK].")


def passes_its_self_test(built: Built, metric: str) -> None:
    for variant in built.manifest.variants:
        outcome = self_test(built.output, built.manifest, variant)
        assert outcome.passed, outcome.detail
        assert outcome.metric == metric


def feeds(folder: Path, inputs: Any) -> tuple[onnxruntime.InferenceSession, dict[str, Any], list[Any]]:
    """A session of the fp32 graph, a batch for it by tokenizer.json alone, and what that has cut."""
    encodings = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(inputs)
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    names = [tensor.name for tensor in session.get_inputs()]
    return session, {name: np.array([getattr(one, COLUMNS[name]) for one in encodings]) for name in names}, encodings


def check_answers(built: Built) -> None:
    """The spans that a service without transformers finds in a batch are those of transformers' own pipeline."""
    kind: Any = "question-answering"
    assert built.manifest.task == kind
    assert built.manifest.labels == ()
    for variant in built.manifest.variants:
        assert [tensor.name for tensor in variant.outputs] == ["start_logits", "end_logits"]
        assert set(variant.fidelity.metrics) == set(SPANS)
    assert built.manifest.variants[0].fidelity.metrics["spans"] == 1.0
    tokenizer = transformers.AutoTokenizer.from_pretrained(built.source)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(built.source)
    pipeline = transformers.pipeline(kind, model=model, tokenizer=tokenizer)
    session, batch, encodings = feeds(built.output, [(question, PASSAGE) for question in QUESTIONS])
    starts, ends = session.run(["start_logits", "end_logits"], batch)
    for question, start, end, encoding in zip(QUESTIONS, starts, ends, encodings, strict=True):
        theirs = pipeline(question=question, context=PASSAGE, align_to_words=False)
        at = [index for index, part in enumerate(encoding.sequence_ids) if part == 1]
        first, last = best_span(np.stack([start[at], end[at]]))
        begin, finish = encoding.offsets[at[first]][0], encoding.offsets[at[last]][1]
        assert PASSAGE[begin:finish].strip() == theirs["answer"].strip(), question


def check_words(built: Built, masked: tuple[str, ...]) -> None:
    """The five likeliest words of every gap are those of transformers' own pipeline."""
    assert built.manifest.task == "fill-mask"
    for variant in built.manifest.variants:
        assert [tensor.name for tensor in variant.outputs] == ["logits"]
        assert set(variant.fidelity.metrics) == {*CLASSES, "top5"}
    assert built.manifest.variants[0].fidelity.metrics["top5"] > 0.99
    tokenizer = transformers.AutoTokenizer.from_pretrained(built.source)
    model = transformers.AutoModelForMaskedLM.from_pretrained(built.source)
    pipeline = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=5)
    session, batch, _ = feeds(built.output, list(masked))
    (logits,) = session.run(["logits"], batch)
    for row, text in enumerate(masked):
        theirs: Any = pipeline(text)
        gaps = theirs if isinstance(theirs[0], list) else [theirs]
        places = np.flatnonzero(batch["input_ids"][row] == tokenizer.mask_token_id)
        for place, gap in zip(places, gaps, strict=True):
            best = np.argsort(-logits[row, place], kind="stable")[:5]
            assert best.tolist() == [one["token"] for one in gap]


def test_answers_are_found_where_transformers_finds_them(tmp_path: Path) -> None:
    source = bert(tmp_path / "source", "BertForQuestionAnswering")
    built = build(tmp_path, source, SPANS, ("int8",))
    check_answers(built)
    assert not built.manifest.golden.cases
    passes_its_self_test(built, "spans")


def test_hidden_words_are_found_as_transformers_does(tmp_path: Path) -> None:
    source = bert(tmp_path / "source", "BertForMaskedLM")
    built = build(tmp_path, source, (), (), "fill-mask")
    check_words(built, MASKED)
    for chain in built.manifest.golden.chains:
        assert len(chain.rows) == 1
    passes_its_self_test(built, "cosine_min")


def test_static_embeddings_answer_as_sentence_transformers_does(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    source = static_embedder(tmp_path / "source")
    built = build(tmp_path, source, ("cosine_mean", "cosine_min", "neighbours"), ("int8",))
    manifest = built.manifest
    assert (manifest.task, manifest.architecture) == ("feature-extraction", "StaticModel")
    for variant in manifest.variants:
        assert [tensor.name for tensor in variant.inputs] == ["input_ids", "offsets"]
        assert [tensor.name for tensor in variant.outputs] == ["embeddings", "sentence_embedding"]
    assert built.weights("int8", "model") < 0.4 * built.weights("fp32", "model")
    texts = ["the harbour at night", "x", "fold the dough four times, then let it rest"]
    # As model2vec and transformers.js ask such graphs.
    cutter = Tokenizer.from_file(str(built.output / "tokenizer.json"))
    ids = [one.ids for one in cutter.encode_batch(texts, add_special_tokens=False)]
    feeds = {"input_ids": np.concatenate(ids), "offsets": np.cumsum([0, *map(len, ids[:-1])])}
    mine = onnxruntime.InferenceSession(built.output / "onnx/model.onnx").run(None, feeds)
    theirs = SentenceTransformer(str(source), device="cpu").encode(texts)
    for output in mine:
        assert np.allclose(output, theirs, atol=1e-5)
    config = json.loads((built.output / "config.json").read_text())
    assert (config["model_type"], config["normalize"]) == ("model2vec", True)
    assert json.loads((built.output / "modules.json").read_text())[0]["path"] == ""
    passes_its_self_test(built, "cosine_min")


def test_every_token_keeps_a_vector_of_length_one(tmp_path: Path) -> None:
    """As PyLate makes it: the encoder, its Dense layer for every token, and a length of 1."""
    source = make_colbert(bert(tmp_path / "source"))
    built = build(tmp_path, source, ("cosine_mean", "cosine_min", "max_abs"), ("o2",))
    manifest = built.manifest
    assert (manifest.task, manifest.embedding) == ("feature-extraction", None)
    for variant in manifest.variants:
        assert [tensor.name for tensor in variant.outputs] == ["last_hidden_state", "token_embeddings"]
        assert variant.outputs[-1].shape[-1] == "24"
    texts = ["the harbour at night", "fold the dough four times, then let it rest"]
    session, batch, encodings = feeds(built.output, texts)
    (mine,) = session.run(["token_embeddings"], batch)
    model = transformers.AutoModel.from_pretrained(source)
    weight = load_file(source / "1_Dense" / "model.safetensors")["linear.weight"]
    for text, vectors, encoding in zip(texts, mine, encodings, strict=True):
        inputs = transformers.AutoTokenizer.from_pretrained(source)(text, return_tensors="pt")
        with torch.inference_mode():
            its = torch.nn.functional.normalize(model(**inputs).last_hidden_state[0] @ weight.T, dim=-1)
        assert np.allclose(vectors[: sum(encoding.attention_mask)], its.numpy(), atol=1e-5)
    kept = json.loads((built.output / "config_sentence_transformers.json").read_text())
    assert kept["document_prefix"] == "[D] "
    passes_its_self_test(built, "cosine_min")


def check_sparse(built: Built) -> None:
    """A batch gets the vectors that sentence-transformers gives."""
    from sentence_transformers import SparseEncoder

    manifest = built.manifest
    assert manifest.task == "feature-extraction"
    assert manifest.embedding is not None
    for variant in manifest.variants:
        assert [tensor.name for tensor in variant.outputs] == ["logits", "sentence_embedding"]
        assert variant.outputs[-1].shape[-1] == str(manifest.embedding.dimension)
    texts = ["the harbour at night", "fold the dough four times, then let it rest", "x"]
    session, batch, _ = feeds(built.output, texts)
    (mine,) = session.run(["sentence_embedding"], batch)
    its = SparseEncoder(str(built.source), device="cpu").encode(texts, convert_to_sparse_tensor=False).numpy()
    assert np.allclose(mine, its, atol=1e-4)
    assert 0 < (mine > 0).mean() < 1
    assert all(len(chain.at) >= 64 for chain in manifest.golden.chains)
    passes_its_self_test(built, "cosine_min")


def test_a_sparse_encoder_answers_as_sentence_transformers_does(tmp_path: Path) -> None:
    source = make_sparse(bert(tmp_path / "source", "BertForMaskedLM"))
    built = build(tmp_path, source, ("cosine_mean", "cosine_min", "neighbours"), ("int8",))
    check_sparse(built)
    assert built.manifest.embedding is not None
    assert built.manifest.embedding.similarity == "dot"
    (tmp_path / "cut.toml").write_text("truncate_dim = 8\n")
    ran = modeldrop("plan", source, tmp_path / "registry/m", "--recipe", tmp_path / "cut.toml")
    assert (ran.code, "truncate_dim: cuts vectors of embedders" in ran.err) == (3, True)


@pytest.mark.parametrize("mode", ["splade_max", "splade_sum", "splade_max_log", "splade_sum_log"])
@pytest.mark.parametrize("opset", [17, 18])
def test_sparse_vectors_in_whole_and_in_half_precision(mode: str, opset: int) -> None:
    from modeldrop.export.models.shared.pooling import Head, pool
    from modeldrop.export.models.shared.pooling_graph import append_head
    from modeldrop.export.quantizers.half import halved

    graph = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {opset}]>
        g (float[batch, sequence, 8] scores, int64[batch, sequence] attention_mask)
            => (float[batch, sequence, 8] logits) {{ logits = Identity(scores) }}"""
    )
    head = Head((mode,), (), normalize=False, of="logits")
    append_head(graph, head)
    onnx.checker.check_model(graph, full_check=True)
    scores = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    expected = pool(head, scores, mask).numpy()
    inputs = {"scores": scores.numpy(), "attention_mask": mask.numpy()}
    for model, close in ((graph, 1e-6), (halved(graph, [], infer_shapes=True), 2e-3)):
        session = onnxruntime.InferenceSession(model.SerializeToString())
        assert np.allclose(session.run(["sentence_embedding"], inputs)[0], expected, atol=close)


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_other_ways_to_make_a_vector_sparse(strategy: str, tmp_path: Path) -> None:
    source = make_sparse(roberta(tmp_path / "source", "RobertaForMaskedLM"), strategy, "log1p_relu")
    check_sparse(build(tmp_path, source, ("cosine_mean", "cosine_min", "neighbours"), ("fp16", "openvino-fp16")))


@pytest.mark.soak
def test_other_kinds_find_answers(tmp_path: Path) -> None:
    source = roberta(tmp_path / "source", "RobertaForQuestionAnswering", labels=2)
    built = build(tmp_path, source, SPANS, ("fp16", "int8", "int4", "openvino-int8"))
    check_answers(built)
    passes_its_self_test(built, "spans")


@pytest.mark.soak
def test_other_kinds_find_hidden_words(tmp_path: Path) -> None:
    source = roberta(tmp_path / "source", "RobertaForMaskedLM")
    built = build(tmp_path, source, (*CLASSES, "top5"), ("fp16", "int8", "openvino-int8"), "fill-mask")
    check_words(built, tuple(text.replace("[MASK]", "<mask>") for text in MASKED))


@pytest.mark.soak
def test_the_other_exporter_makes_them_too(tmp_path: Path) -> None:
    """A graph with two outputs, and one that answers for every token."""
    for head, task in (("BertForQuestionAnswering", "question-answering"), ("BertForMaskedLM", "fill-mask")):
        folder = tmp_path / task
        folder.mkdir()
        source = bert(folder / "source", head)
        (folder / "recipe.toml").write_text(
            f'task = "{task}"\nexporter = "transformers"\nvariants = ["fp32"]\n[thresholds.fp32]\nmax_abs = 1e-3'
        )
        ran = modeldrop(
            "build", source, "-o", folder / "out", "--recipe", folder / "recipe.toml",
            environment={"MODELDROP_EXPORTER_PYTHON": str(PYTHON)},
        )  # fmt: skip
        assert ran.code == 0, ran.err
        manifest = parse_manifest((folder / "out" / "manifest.json").read_bytes())
        assert manifest.exporter == "transformers"
        check = check_answers if task == "question-answering" else partial(check_words, masked=MASKED)
        check(Built(source, folder / "out", manifest))
