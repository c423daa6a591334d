"""Other kinds of models, built from small checkpoints; and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from modeldrop.export.models.family import CLASSES
from modeldrop.fetcher.self_test import self_test
from modeldrop.format.manifest import parse_manifest
from modeldrop.format.tasks import MULTI_LABEL, REGRESSION
from tests.export.building import COLUMNS, answers
from tests.export.recipes import loosened
from tests.helpers.checkpoints import bert, edit_weights, make_embedder
from tests.helpers.command_line import modeldrop
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.hub import HubServer

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.heavy

# Random weights may quantize as badly as can be: the mechanics are what is tested here.
VECTORS = ("cosine_mean", "cosine_min")
SCORES = ("correlation", "kendall_tau", "top10")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("classifier"), "BertForSequenceClassification", labels=3)


def _recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def _no_versions(registry: Path) -> bool:
    return not list(registry.glob("*/v*")) and not list(registry.glob("*/current"))


def test_classifier_force_and_channels(classifier: Path, tmp_path: Path) -> None:
    model = tmp_path / "registry" / "sentiment"
    loose = loosened(tmp_path, CLASSES)
    first = modeldrop("publish", classifier, model, "--recipe", loose, "--channel", "staging")
    assert first.code == 0, first.err
    manifest = parse_manifest((model / "v1/manifest.json").read_bytes())
    assert manifest.task == "text-classification"
    assert manifest.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert set(manifest.variants[1].fidelity.metrics) == set(CLASSES)
    assert manifest.variants[0].fidelity.metrics["top1"] == 1.0
    assert [tensor.name for tensor in manifest.variants[0].outputs] == ["logits"]
    assert (model / "staging").is_file()
    assert not (model / "current").exists()
    # Unchanged, and a channel that is missing is made.
    unchanged = modeldrop("publish", classifier, model, "--recipe", loose, "--json").json
    assert (unchanged["built"], unchanged["channel"]["after"], unchanged["channel"]["moved"]) == (
        False,
        "v1",
        True,
    )
    forced = modeldrop("publish", classifier, model, "--recipe", loose, "--force", "--no-promote", "--json").json
    assert (forced["built"], forced["version"], forced["channel"]) == (True, "v2", None)
    # The recipe now names v2, and nobody has moved current by hand: it follows.
    again = modeldrop("publish", classifier, model, "--recipe", loose, "--json").json
    assert (again["version"], again["promotion"], again["channel"]["after"]) == ("v2", "moved", "v2")


def test_hub_source_is_pinned_and_built_once(tmp_path: Path) -> None:
    loose = loosened(tmp_path, VECTORS)
    first = bert(tmp_path / "first")
    with HubServer() as hub:
        repo = hub.add_repo("acme/encoder", first, card={"license": "mit"})
        commit = repo.refs["main"]
        environment = {**hub.environment, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        arguments = ("acme/encoder", tmp_path / "registry/encoder", "--recipe", loose, "--json")
        built = modeldrop("publish", *arguments, environment=environment)
        assert built.code == 0, built.err
        manifest = parse_manifest((tmp_path / "registry/encoder/v1/manifest.json").read_bytes())
        assert manifest.source.identity == f"hf:acme/encoder@{commit}"
        assert (manifest.source.repository, manifest.source.commit) == ("acme/encoder", commit)
        hub.requests.clear()
        unchanged = modeldrop("publish", *arguments, environment=environment)
        assert (unchanged.code, unchanged.json["built"]) == (0, False)
        assert len(hub.requests) == 1
        repo.commit(bert(tmp_path / "second", seed=1))
        moved = modeldrop("plan", *arguments, environment=environment)
        assert moved.json["would_build"]
        pinned = (f"acme/encoder@{commit}", *arguments[1:])
        assert modeldrop("plan", *pinned, environment=environment).json["version"] == "v1"


def test_reranker_is_compared_by_its_order(tmp_path: Path) -> None:
    source = bert(tmp_path / "source", "BertForSequenceClassification", labels=1)
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", loosened(tmp_path, SCORES))
    assert ran.code == 0, ran.err
    fp32, int8 = parse_manifest((tmp_path / "out/manifest.json").read_bytes()).variants
    assert set(int8.fidelity.metrics) == {*SCORES, "max_abs"}
    assert fp32.fidelity.metrics["correlation"] > 0.9999
    assert fp32.fidelity.metrics["kendall_tau"] > 0.999
    # Questions with passages, as it will be asked.
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    assert all(set(case.inputs["token_type_ids"]) == {0, 1} for case in manifest.golden.cases)
    assert all(" \u2192 " in case.text for case in manifest.golden.cases)


@pytest.mark.parametrize(
    ("problem", "labels", "metrics"),
    [
        (MULTI_LABEL, 6, {"cosine_mean", "cosine_min", "decisions", "max_abs"}),
        (REGRESSION, 1, {"nrmse", "correlation", "max_abs"}),
    ],
)
def test_a_classifier_is_compared_by_what_its_scores_mean(
    tmp_path: Path, problem: str, labels: int, metrics: set[str]
) -> None:
    source = bert(tmp_path / "source", "BertForSequenceClassification", labels=labels)
    config = json.loads((source / "config.json").read_text()) | {"problem_type": problem}
    (source / "config.json").write_text(json.dumps(config))
    loose = loosened(tmp_path, metrics)
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", loose)
    assert ran.code == 0, ran.err
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    assert manifest.problem == problem
    fp32, int8 = manifest.variants
    assert set(fp32.fidelity.metrics) == set(int8.fidelity.metrics) == metrics
    assert fp32.fidelity.metrics.get("decisions", 1.0) == 1.0
    assert fp32.fidelity.metrics.get("nrmse", 0.0) < 1e-5
    for variant in manifest.variants:
        outcome = self_test(tmp_path / "out", manifest, variant)
        assert outcome.passed, outcome.detail
        assert outcome.metric in {"decisions", "nrmse"}


def test_token_classifier(tmp_path: Path) -> None:
    source = bert(tmp_path / "source", "BertForTokenClassification", labels=5)
    # Files of the caller's folder are never taken for the exporter's libraries.
    for name in ("torch", "onnx", "tokenizers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--variants", "fp32", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    assert manifest.task == "token-classification"
    assert [variant.name for variant in manifest.variants] == ["fp32"]
    assert manifest.variants[0].outputs[0].shape[-1] == "5"


def test_embedder_with_dense_layer_equals_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    source = make_embedder(bert(tmp_path / "source"), {"pooling_mode_cls_token": True}, dense=True, normalize=True)
    (tmp_path / "recipe.toml").write_text('variants = ["fp32", "o2"]\ntruncate_dim = 8\n')
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", tmp_path / "recipe.toml")
    assert ran.code == 0, ran.err
    texts = ["a recipe for bread", "the court ruled", "x"]
    expected = SentenceTransformer(str(source), device="cpu").encode(texts)
    answer = answers(tmp_path / "out", texts, "sentence_embedding", taken=set(COLUMNS))
    assert answer.shape == (3, 24)
    assert np.allclose(answer, expected, atol=1e-5)
    # A further output, as sentence-transformers cuts it.
    cut = SentenceTransformer(str(source), device="cpu", truncate_dim=8).encode(texts)
    assert np.allclose(answers(tmp_path / "out", texts, "sentence_embedding_8"), cut, atol=1e-5)
    for variant in parse_manifest((tmp_path / "out/manifest.json").read_bytes()).variants:
        assert [tensor.name for tensor in variant.outputs] == [
            "last_hidden_state",
            "sentence_embedding",
            "sentence_embedding_8",
        ]
        assert variant.outputs[-1].shape[-1] == "8"


def test_plain_encoder_gives_hidden_states(tmp_path: Path) -> None:
    ran = modeldrop("build", bert(tmp_path / "source"), "-o", tmp_path / "out", "--variants", "fp32")
    assert ran.code == 0, ran.err
    (variant,) = parse_manifest((tmp_path / "out/manifest.json").read_bytes()).variants
    assert [tensor.name for tensor in variant.outputs] == ["last_hidden_state"]


def test_unfaithful_variant_fails_and_nothing_is_published(classifier: Path, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, "[thresholds.int8]\ncosine_min = 0.9999999\n")
    ran = modeldrop("publish", classifier, tmp_path / "registry/m", "--recipe", recipe)
    assert ran.code == 10
    for part in ("int8", "cosine_min is ", ">= 0.9999999;", "worst on '", "Nothing was published", "auto = true"):
        assert part in ran.err
    assert "Traceback" not in ran.err
    assert _no_versions(tmp_path / "registry")


def test_threshold_on_a_metric_the_task_lacks_is_refused(classifier: Path, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, "[thresholds.fp32]\ncorrelation = 0.5\n")
    ran = modeldrop("build", classifier, "-o", tmp_path / "out", "--recipe", recipe)
    assert ran.code == 3
    assert "correlation" in ran.err
    assert not (tmp_path / "out").exists()


def test_weights_that_would_be_made_up(tmp_path: Path) -> None:
    def behead(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["classifier.weight"]

    source = edit_weights(bert(tmp_path / "source", "BertForSequenceClassification"), behead)
    ran = modeldrop("publish", source, tmp_path / "registry/m")
    assert ran.code == 7
    assert "classifier.weight" in ran.err
    assert "made up at random" in ran.err
    assert _no_versions(tmp_path / "registry")


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors["classifier.bias"][0] = float("nan")

    source = edit_weights(bert(tmp_path / "source", "BertForSequenceClassification"), poison)
    ran = modeldrop("publish", source, tmp_path / "registry/m")
    assert (ran.code, "classifier.bias holds NaN" in ran.err) == (7, True)


def test_killed_half_way_leaves_nothing_and_no_orphan(classifier: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    process = subprocess.Popen(
        [sys.executable, "-m", "modeldrop", "publish", classifier, registry / "m"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    workers: list[psutil.Process] = []
    while not workers:
        time.sleep(0.05)
        assert process.poll() is None
        workers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=HANG_SECONDS)
    assert (len(gone), alive) == (1, [])
    assert _no_versions(registry)


def test_disk_that_gets_full_during_the_build(classifier: Path, tmp_path: Path) -> None:
    # No file may grow beyond 100 kB: the first large one, the graph, meets EFBIG as it would ENOSPC.
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from modeldrop.cli import main; sys.exit(main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", limited, "publish", classifier, tmp_path / "registry/m"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 15, ran.stderr
    assert "The disk got full" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert _no_versions(tmp_path / "registry")


def test_interrupt_is_clean(classifier: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modeldrop", "build", classifier, "-o", tmp_path / "out"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not psutil.Process(process.pid).children():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
@pytest.mark.parametrize("opset", [17, 18])
def test_pooling_modes_equal_sentence_transformers(mode: str, opset: int) -> None:
    import onnx
    import onnxruntime
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling

    from modeldrop.export.models.shared.pooling import Head, pool
    from modeldrop.export.models.shared.pooling_graph import append_head

    graph = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : {opset}]>
        g (float[batch, sequence, 8] hidden, int64[batch, sequence] attention_mask)
            => (float[batch, sequence, 8] last_hidden_state) {{ last_hidden_state = Identity(hidden) }}"""
    )
    head = Head((mode, "mean"), (), normalize=True)
    append_head(graph, head)
    onnx.checker.check_model(graph, full_check=True)
    hidden = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    _, answer = session.run(None, {"hidden": hidden.numpy(), "attention_mask": mask.numpy()})
    reference: Any = [
        Pooling(8, pooling_mode=one)({"token_embeddings": hidden, "attention_mask": mask})["sentence_embedding"]
        for one in (mode, "mean")
    ]
    expected = torch.nn.functional.normalize(torch.cat(reference, 1), dim=1)
    assert np.allclose(answer, expected.numpy(), atol=1e-6)
    assert np.allclose(pool(head, hidden, mask).numpy(), expected.numpy(), atol=1e-6)
