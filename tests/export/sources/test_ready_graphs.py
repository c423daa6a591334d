"""Ready graphs of models that transformers does not know, or only with code of their own: nomic, gte, jina."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import transformers
from optimum.exporters.onnx import onnx_export_from_model
from sentence_transformers import SentenceTransformer

from tests.export.building import answers
from tests.helpers.checkpoints import HIDDEN, bert, make_embedder
from tests.helpers.command_line import Ran, modeldrop

pytestmark = pytest.mark.heavy

TEXTS = ["The harbour at night", "Größe und Élan", "x"]
# As nomic-ai/nomic-embed-text-v1.5 has it, whose code lies in another repository still.
NOMIC = {
    "model_type": "nomic_bert",
    "architectures": ["NomicBertModel"],
    "n_embd": HIDDEN,
    "n_positions": 256,
    "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    },
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedder as sentence-transformers saves it."""
    folder = bert(tmp_path_factory.mktemp("known") / "source")
    return make_embedder(folder, {"pooling_mode_mean_tokens": True}, dense=True, normalize=True)


@pytest.fixture(scope="module")
def exported(embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of its transformer."""
    folder = tmp_path_factory.mktemp("exported")
    export(transformers.AutoModel.from_pretrained(embedder), folder)
    return folder / "model.onnx"


def export(model: Any, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its exporter, and of what it traces
        onnx_export_from_model(model, folder, task="feature-extraction", do_validation=False)


def ready(embedder: Path, folder: Path, graph: Path, **config: Any) -> Path:
    """The embedder with a graph instead of weights, and other entries in its config.json."""
    shutil.copytree(embedder, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    if (embedder / "2_Dense").is_dir():
        shutil.copy(embedder / "2_Dense/model.safetensors", folder / "2_Dense")
    (folder / "onnx").mkdir()
    shutil.copy(graph, folder / "onnx/model.onnx")
    plain = {"vocab_size": json.loads((embedder / "config.json").read_text())["vocab_size"]} | config
    (folder / "config.json").write_text(json.dumps(plain))
    return folder


def build(source: Path | str, output: Path, *arguments: str | Path) -> Ran:
    return modeldrop("build", source, "-o", output, "--variants", "fp32", *arguments)


def encoded(embedder: Path) -> np.ndarray:
    return np.asarray(SentenceTransformer(str(embedder), device="cpu").encode(TEXTS))


def test_a_graph_needs_no_code(embedder: Path, exported: Path, tmp_path: Path) -> None:
    source = ready(embedder, tmp_path / "nomic", exported, **NOMIC)
    # Of a kind that is not known, transformers finds the tokenizer's class nowhere else.
    tokenizer = json.loads((source / "tokenizer_config.json").read_text())
    del tokenizer["tokenizer_class"]
    (source / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    ran = build(source, tmp_path / "out")
    assert ran.code == 0, ran.err
    assert np.allclose(answers(tmp_path / "out", TEXTS, "sentence_embedding"), encoded(embedder), atol=1e-5)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["model"]["max_length"] == 128


def test_the_hint_leads_from_code_to_the_graph(embedder: Path, exported: Path, tmp_path: Path) -> None:
    # transformers 5 has learnt nomic_bert itself; this one neither exporter has.
    source = ready(embedder, tmp_path / "nomic", exported, **NOMIC | {"model_type": "nomic_experts"})
    shutil.copy(embedder / "model.safetensors", source)
    ran = build(source, tmp_path / "out")
    assert ran.code == 7, ran.err
    graph = ran.err.partition("needs none of that code: ")[2].partition(". Else")[0]
    ran = build(graph, tmp_path / "out")
    assert ran.code == 0, ran.err
    assert np.allclose(answers(tmp_path / "out", TEXTS, "sentence_embedding"), encoded(embedder), atol=1e-5)


def test_the_graph_alone_with_what_lies_elsewhere(embedder: Path, exported: Path, tmp_path: Path) -> None:
    beside = ready(embedder, tmp_path / "gte", exported, model_type="new", architectures=["NewModel"])
    ran = build(exported, tmp_path / "out", "--tokenizer", beside)
    assert ran.code == 0, ran.err
    hidden = answers(tmp_path / "out", TEXTS[:1], "last_hidden_state")
    inputs = transformers.AutoTokenizer.from_pretrained(embedder)(TEXTS[:1], return_tensors="pt")
    theirs = transformers.AutoModel.from_pretrained(embedder)(**inputs).last_hidden_state.detach().numpy()
    assert np.allclose(hidden, theirs, atol=1e-4)


def test_what_optimum_exports_of_a_sentence_transformers_model(embedder: Path, tmp_path: Path) -> None:
    source = tmp_path / "optimum"
    original = SentenceTransformer(str(embedder), device="cpu")
    export(original, source)
    shutil.copy(embedder / "config.json", source)
    original.tokenizer.save_pretrained(source)
    outputs = [tensor.name for tensor in onnxruntime.InferenceSession(source / "model.onnx").get_outputs()]
    assert outputs == ["token_embeddings", "sentence_embedding"]
    for modules in (False, True):
        if modules:
            for name in ("modules.json", "1_Pooling", "2_Dense", "sentence_bert_config.json"):
                copy = shutil.copytree if (embedder / name).is_dir() else shutil.copy
                copy(embedder / name, source / name)
        output = tmp_path / f"out-{modules}"
        ran = build(source, output)
        assert ran.code == 0, ran.err
        assert np.allclose(answers(output, TEXTS, "sentence_embedding"), encoded(embedder), atol=1e-5)
    version = SentenceTransformer(str(output), backend="onnx", device="cpu")
    assert np.allclose(version.encode(TEXTS), encoded(embedder), atol=1e-5)

    # The graph makes vectors of other numbers than modules.json: one of the two is not the model.
    pooling = source / "1_Pooling/config.json"
    plain = json.loads(pooling.read_text()) | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    pooling.write_text(json.dumps(plain))
    ran = build(source, tmp_path / "out")
    assert ran.code == 7, ran.err
    assert "remove modules.json from a copy of the source" in ran.err
    (source / "modules.json").unlink()
    ran = build(source, tmp_path / "out")
    assert ran.code == 0, ran.err
    assert np.allclose(answers(tmp_path / "out", TEXTS, "sentence_embedding"), encoded(embedder), atol=1e-5)


def test_a_graph_with_fewer_positions_than_its_tokenizer_says(embedder: Path, exported: Path, tmp_path: Path) -> None:
    source = ready(embedder, tmp_path / "long", exported, model_type="new", architectures=["NewModel"])
    (source / "sentence_bert_config.json").unlink()
    tokenizer = json.loads((source / "tokenizer_config.json").read_text()) | {"model_max_length": 300}
    (source / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    ran = build(source, tmp_path / "out")
    assert ran.code == 7, ran.err
    assert "set max_length in the recipe to their number" in ran.err
    ran = build(source, tmp_path / "out", "--max-length", "256")
    assert ran.code == 0, ran.err


def test_a_graph_that_wants_what_nobody_knows(embedder: Path, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    model.graph.input.append(onnx.helper.make_tensor_value_info("task_id", onnx.TensorProto.INT64, [1]))
    onnx.save(model, tmp_path / "jina.onnx")
    source = ready(embedder, tmp_path / "jina", tmp_path / "jina.onnx", model_type="x", architectures=["XModel"])
    ran = build(source, tmp_path / "out")
    assert ran.code == 7, ran.err
    assert "The graph wants task_id" in ran.err
