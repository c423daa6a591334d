"""The real MiniLM, end to end: what is published, and that the ecosystem loads it unchanged."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tokenizers import Tokenizer

from modeldrop.errors import FidelityError, VariantError
from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.onnx_weights import save
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.self_test import self_test
from modeldrop.format.manifest import Manifest, manifest_digest, parse_manifest, serialize_manifest
from modeldrop.registry.channels import move_forward
from modeldrop.storage.write.folder import FolderStore
from tests.docs.consumer_calls import calls_of
from tests.helpers.builds import PIECE, describe, publish_folder
from tests.helpers.command_line import ROOT, RUNTIME_PYTHON, modeldrop
from tests.helpers.minilm import MINILM, Published, hub_with_minilm

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return parse_manifest((published.version / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def original(minilm: Path) -> np.ndarray[Any, Any]:
    """Embeddings of sentence-transformers itself, on PyTorch."""
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(minilm), device="cpu").encode(list(BUILT_IN)))


@pytest.fixture
def at_hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Hub that it was published from."""
    with hub_with_minilm(tmp_path_factory.mktemp("hub")) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def _cosines(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1))


def test_steps_are_told_as_lines(published: Published) -> None:
    lines = published.ran.err.splitlines()
    for number, step in enumerate(("source", "export", "quantize", "prove", "measure", "publish"), 1):
        assert any(line.startswith(f"[{number}/6] {step}") for line in lines)
    assert "\r" not in published.ran.err
    assert "current → v1, generation 1" in published.ran.out


def test_int8_is_small_faithful_and_recorded(manifest: Manifest) -> None:
    fp32, int8 = manifest.variants
    assert (fp32.name, int8.name) == ("fp32", "int8")
    assert manifest.weights_of(int8) <= 0.26 * manifest.weights_of(fp32)
    assert int8.fidelity.metrics["cosine_mean"] >= 0.985
    assert int8.fidelity.metrics["cosine_min"] >= int8.fidelity.thresholds["cosine_min"]
    assert fp32.fidelity.metrics["max_abs"] < 1e-5
    assert int8.fidelity.worst["cosine_min"].text in {text[:200] for text in BUILT_IN}
    assert all(variant.speed is not None and variant.speed.batch_1_ms > 0 for variant in manifest.variants)
    assert manifest.original.speed is not None
    assert [tensor.name for tensor in int8.outputs] == ["last_hidden_state", "sentence_embedding"]
    assert int8.outputs[1].shape[-1] == "384"


def test_provenance_comes_from_the_environment(manifest: Manifest) -> None:
    made = manifest.provenance
    assert made.repository == "https://github.example/acme/models"
    assert made.run.endswith("/actions/runs/42")
    assert (made.actor, made.commit[:8]) == ("octocat", "01234567")
    assert set(manifest.toolchain) >= {"torch", "transformers", "optimum-onnx", "onnxruntime", "python"}


def test_everything_a_runtime_needs_is_there(published: Published, manifest: Manifest) -> None:
    paths = {file.path for file in manifest.files}
    assert paths >= {
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "modules.json",
        "1_Pooling/config.json", "sentence_bert_config.json", "onnx/model.onnx", "onnx/model.onnx_data",
        "onnx/model_quantized.onnx", "onnx/model_quantized.onnx_data",
    }  # fmt: skip
    on_disk = {str(path.relative_to(published.version)) for path in published.version.rglob("*") if path.is_file()}
    assert on_disk == paths | {"claim.json", "manifest.json", "report.html", "bom.cdx.json"}


def test_tokenizer_has_no_baked_in_padding(published: Published) -> None:
    tokenizer = Tokenizer.from_file(str(published.version / "tokenizer.json"))
    assert len(tokenizer.encode("short").ids) == 3
    assert len(tokenizer.encode("long " * 1000).ids) == 256
    assert {len(encoding.ids) for encoding in tokenizer.encode_batch(["short", "a little longer"])} == {5}
    plain = json.loads((published.version / "tokenizer_config.json").read_text("utf-8"))
    assert (plain["model_max_length"], "max_length" in plain) == (256, False)


@pytest.mark.parametrize(("file", "least"), [("model.onnx", 0.99999), ("model_quantized.onnx", 0.93)])
def test_sentence_transformers_loads_it(
    published: Published, original: np.ndarray[Any, Any], file: str, least: float
) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(published.version),
        backend="onnx",
        device="cpu",
        model_kwargs={"file_name": f"onnx/{file}", "provider": "CPUExecutionProvider"},
    )
    assert _cosines(np.asarray(model.encode(list(BUILT_IN))), original).min() > least


def test_optimum_loads_it(published: Published, original: np.ndarray[Any, Any]) -> None:
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    model = ORTModelForFeatureExtraction.from_pretrained(published.version, subfolder="onnx", file_name="model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(published.version)
    inputs = tokenizer(list(BUILT_IN[:8]), padding=True, truncation=True, return_tensors="pt")
    hidden = model(**inputs).last_hidden_state.numpy()
    mask = inputs["attention_mask"].numpy()[..., None]
    assert _cosines((hidden * mask).sum(1) / mask.sum(1), original[:8]).min() > 0.99999


@pytest.mark.parametrize(("file", "least"), [("model.onnx", 0.99999), ("model_quantized.onnx", 0.93)])
def test_fastembed_loads_it(published: Published, original: np.ndarray[Any, Any], file: str, least: float) -> None:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = f"acme/{file}"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=384,
        model_file=f"onnx/{file}",
    )
    model = TextEmbedding(name, specific_model_path=str(published.version))
    assert _cosines(np.array(list(model.embed(list(BUILT_IN), batch_size=1))), original).min() > least


@pytest.mark.parametrize("program", ["sentence-transformers", "fastembed", "optimum"])
def test_programs_load_what_was_fetched_for_them_as_the_page_shows(
    published: Published, original: np.ndarray[Any, Any], tmp_path: Path, program: str
) -> None:
    snapshot = fetch(published.reference, tmp_path, variant="int8", consumer=program)
    names: dict[str, Any] = {"folder": str(snapshot), "texts": list(BUILT_IN)}
    exec(calls_of(program)[0], names)
    if program == "optimum":
        mask = names["inputs"]["attention_mask"].numpy()[..., None]
        names["vectors"] = (names["hidden"].detach().numpy() * mask).sum(1) / mask.sum(1)
    assert _cosines(np.array(names["vectors"]), original).min() > 0.93


def test_bare_onnxruntime_gives_the_pooled_embedding(published: Published, original: np.ndarray[Any, Any]) -> None:
    session = onnxruntime.InferenceSession(published.version / "onnx/model.onnx")
    tokenizer = Tokenizer.from_file(str(published.version / "tokenizer.json"))
    encodings = tokenizer.encode_batch(list(BUILT_IN))
    hidden, embedding = session.run(
        None,
        {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        },
    )
    assert hidden.shape[-1] == 384
    assert np.allclose(np.linalg.norm(embedding, axis=-1), 1, atol=1e-5)
    assert _cosines(embedding, original).min() > 0.99999


def test_golden_cases_reproduce(published: Published, manifest: Manifest) -> None:
    for variant in manifest.variants:
        session = onnxruntime.InferenceSession(published.version / variant.model)
        for case in manifest.golden.cases:
            inputs = {name: np.array([ids]) for name, ids in case.inputs.items()}
            answer = session.run([manifest.golden.output], inputs)[0]
            least = manifest.golden.metrics[variant.name]["cosine_min"]
            assert _cosines(answer, np.array([case.values])).item() >= least - 1e-4


@pytest.mark.usefixtures("at_hub")
def test_unchanged_publish_imports_no_exporter_and_writes_nothing(published: Published) -> None:
    before = _tree(published.registry)
    program = (
        "import sys; from modeldrop.cli import main\n"
        f"code = main(['publish', {MINILM!r}, {published.reference!r}, '--json'])\n"
        "heavy = {'torch', 'transformers', 'optimum', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)\n"
        "sys.exit(code or f'imported: {heavy}' if heavy else code)"
    )
    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["built"], answer["version"], answer["channel"]["moved"]) == (False, "v1", False)
    assert _tree(published.registry) == before


@pytest.mark.usefixtures("at_hub")
def test_plan_and_dry_run_write_nothing(published: Published) -> None:
    before = _tree(published.registry)
    plan = modeldrop("plan", MINILM, published.reference, "--json").json
    assert (plan["would_build"], plan["version"], plan["outdated"]) == (False, "v1", {})
    other = modeldrop("plan", MINILM, published.reference, "--variants", "fp32", "--json").json
    assert other["would_build"]
    dry = modeldrop("publish", MINILM, published.reference, "--variants", "int8", "--dry-run")
    assert (dry.code, "would build int8 for feature-extraction" in dry.out) == (0, True)
    assert _tree(published.registry) == before


@pytest.mark.soak  # test_reproducible builds a small model again
def test_build_is_reproducible_and_idempotent(minilm: Path, manifest: Manifest, tmp_path: Path) -> None:
    output = tmp_path / "built here"
    first = modeldrop("build", minilm, "-o", output, "--json")
    assert first.code == 0, first.err
    assert first.json["built"]
    again = parse_manifest((output / "manifest.json").read_bytes())
    assert again.files == manifest.files  # byte for byte what another process published, from the Hub
    before = _tree(output)
    second = modeldrop("build", minilm, "-o", output, "--json")
    assert (second.code, second.json["built"]) == (0, False)
    assert _tree(output) == before
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_report_is_there_and_complete(published: Published, manifest: Manifest) -> None:
    report = (published.version / "report.html").read_text("utf-8")
    assert all(file.sha256 in report for file in manifest.files)
    assert "<script" not in report


def test_fetched_and_used_without_torch(published: Published, tmp_path: Path) -> None:
    assert RUNTIME_PYTHON.exists(), "make test makes this environment"
    # Where the machine was busy while it was built, either variant may have been the faster one, which auto would take.
    asked = ("fetch", published.reference, "-d", tmp_path, "--variant", "int8", "--json")
    fetched = modeldrop(*asked, python=RUNTIME_PYTHON)
    assert fetched.code == 0, fetched.err
    (snapshot,) = fetched.json
    assert (snapshot["version"], snapshot["variant"], snapshot["generation"]) == ("v1", "int8", 1)
    assert snapshot["digest"] == manifest_digest((published.version / "manifest.json").read_bytes())
    (tmp_path / "models").symlink_to(published.registry)
    (tmp_path / "home").mkdir()
    search = subprocess.run(
        [RUNTIME_PYTHON, ROOT / "examples/demo/search.py"],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert search.returncode == 0, search.stderr
    assert "internet connection is down  → Restart the router" in search.stdout
    assert "heavy libraries loaded: none" in search.stdout


def test_aws_sync_like_copy_needs_no_modeldrop(published: Published) -> None:
    """A person can read the bucket: the version's folder alone is the model."""
    config = json.loads((published.version / "config.json").read_text("utf-8"))
    assert config["model_type"] == "bert"
    assert [path.name for path in published.registry.iterdir()] == ["embedder"]


def test_the_self_test_finds_what_was_measured_when_it_was_built(published: Published, manifest: Manifest) -> None:
    for variant in manifest.variants:
        outcome = self_test(published.version, manifest, variant)
        assert outcome.passed, outcome.detail
        assert outcome.value == pytest.approx(manifest.golden.metrics[variant.name][outcome.metric], abs=1e-6)


@pytest.fixture(scope="module")
def tampered(published: Published, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A version whose int8 graph is not what was proven, published with the right digests."""
    folder = tmp_path_factory.mktemp("tampered")
    shutil.copytree(published.version, folder / "build")
    int8 = manifest.variant("int8")
    assert int8 is not None
    path = folder / "build" / int8.model
    graph = onnx.load(path)
    weights = max(
        (one for one in graph.graph.initializer if one.data_type == onnx.TensorProto.INT8),
        key=lambda one: len(one.raw_data),
    )
    weights.raw_data = bytes(len(weights.raw_data))
    save(graph, path, beside=True)
    files = tuple(describe(file.path, (folder / "build" / file.path).read_bytes()) for file in manifest.files)
    # Without latencies auto takes int8 first, however busy the machine was that measured them.
    variants = tuple(variant._replace(speed=None) for variant in manifest.variants)
    changed = manifest._replace(files=files, piece_size=PIECE, variants=variants)
    (folder / "build" / "manifest.json").unlink()
    (folder / "build" / "manifest.json").write_bytes(serialize_manifest(changed))
    store = FolderStore(str(folder / "registry"))
    version = publish_folder(store, "embedder", folder / "build").version
    move_forward(store, "embedder", version, "current", by="dana")
    return f"{folder}/registry/embedder"


def test_fetch_refuses_what_answers_differently_here_and_takes_the_next(tampered: str, tmp_path: Path) -> None:
    untested = fetch(tampered, tmp_path)
    assert (untested.variant, untested.warnings) == ("int8", ())
    snapshot = fetch(tampered, tmp_path, self_test=True)
    assert snapshot.variant == "fp32"
    (warning,) = snapshot.warnings
    assert re.search(r"^int8: cosine_min of 4 known inputs is .* The next variant is used\.$", warning)
    assert (tmp_path / "embedder" / "current").resolve() == snapshot.path
    again = fetch(tampered, tmp_path, self_test=True)  # remembered
    assert (again.variant, again.warnings, again.downloaded) == ("fp32", snapshot.warnings, 0)
    with pytest.raises(FidelityError, match="does not answer on this CPU as it was proven to"):
        fetch(tampered, tmp_path, self_test=True, variant="int8")
    told = modeldrop("fetch", tampered, "-d", tmp_path / "new", "--self-test", python=RUNTIME_PYTHON)
    assert told.code == 0, told.err
    assert "The next variant is used." in told.err
    bare = modeldrop(
        "run", tampered, "-d", tmp_path / "new", "--self-test", "--", "printenv", "MODELDROP_MODEL_EMBEDDER"
    )
    assert (bare.code, bare.out.strip()) == (0, str(tmp_path / "new" / "embedder" / snapshot.path.name))


def test_a_graph_gets_the_name_that_a_server_insists_on(published: Published, tmp_path: Path) -> None:
    plain = fetch(published.reference, tmp_path)
    named = fetch(published.reference, tmp_path, as_name="onnx/model.onnx", self_test=True)
    assert named.variant == plain.variant
    assert named.model_file == named.path / "onnx" / "model.onnx"
    assert named.model_file.read_bytes() == plain.model_file.read_bytes()
    assert named.downloaded == 0  # linked from the plain one
    # What holds the weights is called as the graph says.
    weights = f"{plain.model_file.name}_data"
    assert {path.name for path in (named.path / "onnx").iterdir()} == {"model.onnx", weights}
    assert fetch(published.reference, tmp_path, as_name="onnx/model.onnx").path == named.path
    assert fetch(published.reference, tmp_path).path == plain.path
    assert (tmp_path / "embedder" / "current-as").resolve() == named.path
    onnxruntime.InferenceSession(named.model_file)


def test_an_onnxruntime_that_is_too_old_is_said_to_be(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "onnxruntime-1.2.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(VariantError, match=r"needs onnxruntime >= .* installed is 1\.2\.0"):
        fetch(published.reference, tmp_path / "home", variant="fp32")
    assert not (tmp_path / "home" / "embedder" / "current-fp32").exists()
