"""bge-m3: a vector of the text, a weight for every token, and a vector for every token but the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from modeldrop.errors import SourceError
from modeldrop.export.models.shared.pooling import answer_beside, pool, read_head
from modeldrop.export.models.shared.pooling_graph import append_head, attach, detach
from modeldrop.export.sentence_config import SentenceConfig
from modeldrop.export.sources import resolve_source
from modeldrop.export.sources.file_choice import FileRules, choose_files
from modeldrop.inference.metrics import compare_beside
from modeldrop.inference.runs import ModelAnswer
from tests.export.building import COLUMNS, build
from tests.helpers.checkpoints import HIDDEN, make_bge_m3, xlm_roberta
from tests.helpers.command_line import modeldrop

FILES = ["config.json", "modules.json", "model.safetensors", "colbert_linear.pt", "sparse_linear.pt"]
OUTPUTS = ["sentence_embedding", "sparse_vecs", "colbert_vecs"]
TEXTS = ["the harbour at night", "Größe und 谢谢, fold the dough four times", "x"]


def of_flag_embedding(folder: Path, hidden: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """``EncoderOnlyEmbedderM3ModelForInference.forward`` of FlagEmbedding 1.4.2, line by line, normalized."""
    sparse, colbert = torch.nn.Linear(HIDDEN, 1), torch.nn.Linear(HIDDEN, 24)
    for layer, name in ((sparse, "sparse_linear.pt"), (colbert, "colbert_linear.pt")):
        layer.load_state_dict(torch.load(folder / name, map_location="cpu", weights_only=True))
    with torch.inference_mode():
        dense = hidden[:, 0]
        weights = torch.relu(sparse(hidden))
        vectors = colbert(hidden[:, 1:])
        vectors = vectors * mask[:, 1:][:, :, None].float()
        normal = torch.nn.functional.normalize
        return [normal(dense, dim=-1), weights, normal(vectors, dim=-1)]


@pytest.mark.parametrize("opset", [17, 18])
def test_the_head_answers_what_flag_embedding_answers(opset: int, tmp_path: Path) -> None:
    tmp_path.joinpath("source").mkdir()
    source = make_bge_m3(tmp_path / "source")
    head = read_head(source, SentenceConfig())
    assert head is not None
    graph = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {opset}]>
        g (float[batch, sequence, {HIDDEN}] hidden, int64[batch, sequence] attention_mask)
            => (float[batch, sequence, {HIDDEN}] last_hidden_state) {{ last_hidden_state = Identity(hidden) }}"""
    )
    append_head(graph, head)
    assert [tensor.name for tensor in graph.graph.output] == ["last_hidden_state", *OUTPUTS]
    # As it is taken off while the graph is made smaller.
    taken = detach(graph)
    assert taken is not None
    assert [tensor.name for tensor in graph.graph.output] == ["last_hidden_state"]
    attach(graph, taken)
    onnx.checker.check_model(graph, full_check=True)
    session, weighed = onnxruntime.InferenceSession(graph.SerializeToString()), 0
    for mask in (torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]), torch.ones((1, 2), dtype=torch.int64)):
        hidden = torch.randn(*mask.shape, HIDDEN, generator=torch.Generator().manual_seed(1))
        wanted = of_flag_embedding(source, hidden, mask)
        found = session.run(OUTPUTS, {"hidden": hidden.numpy(), "attention_mask": mask.numpy()})
        beside = answer_beside(head, hidden, mask)
        original = [pool(head, hidden, mask), *(beside[name] for name in OUTPUTS[1:])]
        for mine, ours, its in zip(found, original, wanted, strict=True):
            assert mine.shape == ours.shape == its.shape
            assert np.allclose(mine, its.numpy(), atol=1e-6)
            assert torch.allclose(ours, its, atol=1e-6)
        weighed += int((wanted[1] > 0).sum())
    assert weighed > 0


def test_its_layers_are_pickles_and_taken_where_these_are_allowed() -> None:
    chosen = choose_files(FILES, where="./m")
    assert (chosen.weights, chosen.left_out) == (("model.safetensors",), ("colbert_linear.pt", "sparse_linear.pt"))
    allowed = choose_files(FILES, where="./m", rules=FileRules(allow_pickle=True))
    assert (allowed.weights, allowed.left_out) == (("colbert_linear.pt", "model.safetensors", "sparse_linear.pt"), ())
    # One alone is no pair, and without modules.json nothing says how vectors are made.
    for without in ("sparse_linear.pt", "modules.json"):
        names = [name for name in FILES if name != without]
        assert "colbert_linear.pt" in choose_files(names, where="./m", rules=FileRules(allow_pickle=True)).left_out


def test_a_layer_that_is_none_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("source").mkdir()
    source = make_bge_m3(tmp_path / "source")
    torch.save({"kernel": torch.zeros(3)}, source / "sparse_linear.pt")
    with pytest.raises(SourceError, match=r"sparse_linear\.pt is not what torch saves of a linear layer"):
        read_head(source, SentenceConfig())


def answer(sparse: list[float], vectors: list[list[float]]) -> dict[str, Any]:
    return {"sparse_vecs": np.array(sparse)[:, None], "colbert_vecs": np.array(vectors)}


def test_what_is_answered_besides_is_compared_by_figures_of_its_own() -> None:
    one, other = answer([1.0, 0.0, 2.0], [[1.0, 0.0], [0.0, 1.0]]), answer([0.0, 0.0], [[0.0, 0.0]])
    expected = [ModelAnswer(np.zeros(2), beside=side) for side in (one, other)]
    same, _ = compare_beside(expected, [one, other])
    assert same == {"sparse_cosine": 1.0, "tokens_cosine": 1.0, "max_abs": 0.0}
    turned = answer([2.0, 0.0, 1.0], [[1.0, 0.0], [0.0, -1.0]])
    worse, worst = compare_beside(expected, [turned, other])
    assert worse == {"sparse_cosine": 0.8, "tokens_cosine": 0.0, "max_abs": 2.0}
    assert {name: index for name, (index, _) in worst.items()} == {
        "sparse_cosine": 0,
        "tokens_cosine": 0,
        "max_abs": 0,
    }
    broken = answer([float("nan"), 0.0], [[0.0, 0.0]])
    assert compare_beside(expected, [one, broken])[0]["sparse_cosine"] == -1.0
    assert compare_beside([ModelAnswer(np.zeros(2))], [{}]) == ({}, {})


@pytest.mark.heavy
@pytest.mark.soak
def test_all_three_are_built_and_proven(tmp_path: Path) -> None:
    source = make_bge_m3(xlm_roberta(tmp_path / "source"))
    metrics = ("cosine_mean", "cosine_min", "neighbours", "sparse_cosine", "tokens_cosine")
    named = modeldrop("plan", source, tmp_path / "registry/m")
    assert named.code == 0, named.err
    assert resolve_source(str(source)).left_out == ("colbert_linear.pt", "sparse_linear.pt")
    built = build(tmp_path, source, metrics, ("fp16", "int8", "openvino-int8"), allow_pickle=True)
    for variant in built.manifest.variants:
        assert [tensor.name for tensor in variant.outputs] == ["last_hidden_state", *OUTPUTS]
        assert set(variant.fidelity.metrics) == {*metrics, "max_abs"}
    assert built.manifest.variants[0].fidelity.metrics["max_abs"] < 1e-4
    assert built.manifest.source.left_out == ()
    tokenizer = Tokenizer.from_file(str(built.output / "tokenizer.json"))
    encodings = tokenizer.encode_batch(TEXTS)
    session = onnxruntime.InferenceSession(built.output / "onnx/model.onnx")
    feeds = {
        tensor.name: np.array([getattr(one, COLUMNS[tensor.name]) for one in encodings])
        for tensor in session.get_inputs()
    }
    model: Any = transformers.AutoModel.from_pretrained(source).eval()
    with torch.inference_mode():
        hidden = model(**{name: torch.tensor(array) for name, array in feeds.items()}).last_hidden_state
    wanted = of_flag_embedding(source, hidden, torch.tensor(feeds["attention_mask"]))
    for name, mine, its in zip(OUTPUTS, session.run(OUTPUTS, feeds), wanted, strict=True):
        rows = feeds["attention_mask"].astype(bool)
        if name == "sparse_vecs":
            mine, its = mine[rows], its.numpy()[rows]  # noqa: PLW2901
        assert np.allclose(mine, its, atol=1e-5), name
