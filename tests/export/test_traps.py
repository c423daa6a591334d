"""What goes wrong in exporting without a word: mended, or refused with a sentence.

Some of it is proven where what it takes is built anyway:

- padding and truncation baked into tokenizer.json, and the files that only sentence-transformers reads:
  ``models/test_minilm``; a config that makes optimum take another library's inputs and outputs: there, too;
- a merged decoder left unquantized, half precision that onnxruntime rejects: ``models/test_families``;
- a table of words left in fp32: ``test_variants_kinds``;
- a merged decoder whose bytes depend on the hash seed: ``test_reproducible``;
- embedders of Llama's kind that need positions: ``models/test_encoders``;
- bytes that are not those that the Hub has digests of: ``sources/test_hub``.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from modeldrop.errors import DiskError, ExportError
from modeldrop.export.known_failures import known_failure
from modeldrop.export.preflight import resources
from modeldrop.export.preflight.checks import CheckedRequest, check_request
from modeldrop.export.request import make_request
from modeldrop.export.sources import resolve_source
from modeldrop.export.transformers5 import fixed_config, fixed_tokenizer_config
from modeldrop.format.recipe import Recipe
from modeldrop.util.text import size_text
from tests.helpers.checkpoints import bert, edit_weights, llama
from tests.helpers.command_line import ROOT, Ran, modeldrop
from tests.helpers.exporter_python import exporter_python
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.hub import HubServer


def edit_json(path: Path, **changes: Any) -> None:
    plain = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in plain.items() if value is not None}))


def build(source: Path, folder: Path, *arguments: str) -> Ran:
    return modeldrop("build", source, "-o", folder / "out", "--variants", "fp32", *arguments)


# --- what transformers 5 writes ---


ROPE = {"rope_type": "default", "rope_theta": 500.0}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.fixture(scope="module")
def of_transformers_5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A language model as transformers 4 writes it, and the same as transformers 5 does."""
    folder = tmp_path_factory.mktemp("transformers5")
    old = llama(folder / "old")
    edit_json(old / "config.json", rope_theta=500.0, rope_scaling={k: v for k, v in YARN.items() if k != "rope_theta"})
    new = folder / "new"
    shutil.copytree(old, new)
    edit_json(new / "config.json", rope_theta=None, rope_scaling=None, rope_parameters=YARN)
    edit_json(
        new / "tokenizer_config.json",
        tokenizer_class="TokenizersBackend",
        extra_special_tokens=["</s>"],
        additional_special_tokens=None,
    )
    # And what a trainer left in tokenizer.json.
    tokenizer = Tokenizer.from_file(str(new / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=128, pad_id=tokenizer.token_to_id("</s>"), pad_token="</s>")
    tokenizer.save(str(new / "tokenizer.json"))
    return old, new


@pytest.mark.heavy
def test_a_checkpoint_of_transformers_5_answers_as_it_was_trained_to(
    of_transformers_5: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = of_transformers_5
    before = {path.name: path.read_bytes() for path in new.iterdir()}
    ran = build(new, tmp_path)
    assert ran.code == 0, ran.err
    assert {path.name: path.read_bytes() for path in new.iterdir()} == before

    # Its tokenizer is there, and cuts and pads nothing that the model would not.
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    ids = tokenizer.encode("the harbour at night, and the boats").ids
    assert len(ids) == 36
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("the harbour at night, and the boats")[
        "input_ids"
    ] == ids  # fmt: skip

    original = transformers.AutoModelForCausalLM.from_pretrained(old).eval()
    with torch.inference_mode():
        expected = original(input_ids=torch.tensor([ids])).logits[0].numpy()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx" / "model.onnx")
    inputs: dict[str, Any] = {
        one.name: np.zeros((1, 2, 0, 16), np.float32)
        for one in session.get_inputs()
        if one.name.startswith("past_key_values")
    }
    inputs |= {
        "input_ids": np.array([ids]),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids))[None],
    }
    answer = session.run(["logits"], {one.name: inputs[one.name] for one in session.get_inputs()})[0][0]
    assert np.abs(answer - expected).max() < 1e-3

    # Which packages built it is all there; what else is installed is nobody's business.
    recorded = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))["build"]["environment"]
    assert recorded["transformers"] == transformers.__version__
    assert recorded.keys() >= {"modeldrop", "torch", "optimum-onnx", "onnx-ir", "safetensors", "filelock"}
    assert not recorded.keys() & {"pytest", "hypothesis", "moto"}

    # The exporter's transformers, left alone, would have answered otherwise.
    ignoring = transformers.AutoModelForCausalLM.from_pretrained(new).eval()
    with torch.inference_mode():
        ignored = ignoring(input_ids=torch.tensor([ids])).logits[0].numpy()
    assert np.abs(ignored - expected).max() > 0.1


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ({"model_type": "qwen3", "rope_parameters": ROPE}, {"rope_theta": 500.0}),
        (
            {"model_type": "llama", "rope_parameters": YARN},
            {"rope_theta": 500.0, "rope_scaling": {k: v for k, v in YARN.items() if k != "rope_theta"}},
        ),
        (
            {"model_type": "phi", "rope_parameters": ROPE | {"partial_rotary_factor": 0.25}},
            {"rope_theta": 500.0, "partial_rotary_factor": 0.25},
        ),
        (
            {"model_type": "gpt_neox", "rope_parameters": ROPE | {"partial_rotary_factor": 0.25}},
            {"rotary_emb_base": 500.0, "rotary_pct": 0.25},
        ),
        (
            {
                "model_type": "modernbert",
                "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE | {"rope_theta": 10.0}},
            },
            {"global_rope_theta": 500.0, "local_rope_theta": 10.0},
        ),
        ({"model_type": "llama", "rope_theta": 7.0, "rope_parameters": ROPE}, {"rope_theta": 7.0}),
        ({"model_type": "bert", "rope_parameters": None}, {}),
    ],
)
def test_rotary_positions_are_written_back(config: dict[str, Any], written: dict[str, Any]) -> None:
    assert fixed_config(config) == config | written
    nested = {"model_type": "vlm", "text_config": config}
    assert fixed_config(nested) == {"model_type": "vlm", "text_config": config | written}


def test_modernbert_reads_what_is_written_back() -> None:
    layers = {"full_attention": ROPE, "sliding_attention": ROPE | {"rope_theta": 10.0}}
    config = transformers.ModernBertConfig(**fixed_config({"model_type": "modernbert", "rope_parameters": layers}))
    assert (config.global_rope_theta, config.local_rope_theta) == (500.0, 10.0)


def test_rotary_positions_that_have_no_place_are_refused(tmp_path: Path) -> None:
    source = bert(tmp_path / "source")
    edit_json(source / "config.json", rope_parameters={"full_attention": ROPE, "chunked_attention": ROPE})
    ran = build(source, tmp_path)
    assert (ran.code, "has no place for them in a bert model" in ran.err) == (7, True), ran.err
    assert "[1/5]" not in ran.err


def test_a_tokenizer_that_is_known_stays_as_it_is() -> None:
    plain = {"tokenizer_class": "BertTokenizer", "extra_special_tokens": {"image": "<i>"}}
    assert fixed_tokenizer_config(plain) == plain


# --- weights ---


def lacks_its_head(folder: Path) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["classifier.weight"], tensors["classifier.bias"]

    edit_weights(folder, drop)


def has_a_layer_that_the_config_does_not_know(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=1)


def has_another_width(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=96)


def holds_nan(folder: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["bert.encoder.layer.1.output.dense.bias"][3] = float("nan")

    edit_weights(folder, spoil)


def has_no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)


def has_another_models_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"word{number}" for number in range(50)])
    tokenizer.save(str(folder / "tokenizer.json"))


def has_an_activation_that_nobody_knows(folder: Path) -> None:
    edit_json(folder / "config.json", hidden_act="telepath")


def is_code(folder: Path) -> None:
    code = {"AutoModelForSequenceClassification": "modeling_telepath.Telepath", "AutoConfig": "configuration.Config"}
    edit_json(folder / "config.json", model_type="telepath", auto_map=code)
    (folder / "modeling_telepath.py").write_text("raise SystemExit('this code ran')")


def is_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("classifier"), "BertForSequenceClassification")


SPOILT: dict[str, Callable[[Path], None]] = {
    "lacks_its_head": lacks_its_head,
    "has_a_layer_more": has_a_layer_that_the_config_does_not_know,
    "has_another_width": has_another_width,
    "holds_nan": holds_nan,
    "has_no_tokenizer": has_no_tokenizer,
    "has_another_tokenizer": has_another_models_tokenizer,
}
WHOLE = ("whole", "without_its_head", "forgotten_weight", "misread_config")


@pytest.fixture(scope="module")
def loaded(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the exporting process says to each of the checkpoints; see ``loading``."""
    root, found = tmp_path_factory.mktemp("checkpoints"), tmp_path_factory.mktemp("found") / "found.json"
    for name in (*SPOILT, *WHOLE):
        shutil.copytree(classifier, root / name)
    for name, spoil in SPOILT.items():
        spoil(root / name)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.export.loading", root, found],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(found.read_text())


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lacks_its_head", "lacks 2 weights that BertForSequenceClassification needs, such as classifier.bias"),
        ("has_a_layer_more", "16 weights of the checkpoint, such as bert.encoder.layer.1."),
        ("has_another_width", "transformers cannot load the checkpoint"),
        ("holds_nan", "bert.encoder.layer.1.output.dense.bias holds NaN or infinity"),
        ("has_no_tokenizer", "Put tokenizer.json and tokenizer_config.json beside the weights"),
        ("has_another_tokenizer", "The tokenizer belongs to another model"),
        # The library that loads the reference is the one that exports: it is compared with the checkpoint itself.
        ("forgotten_weight", "layer.0.output.dense.weight was loaded as something else than model.safetensors holds"),
        ("misread_config", "config.json says layer_norm_eps = 1e-12, and transformers 4.57"),
    ],
)
def test_a_spoilt_checkpoint_is_not_loaded(name: str, said: str, loaded: Any) -> None:
    assert said in loaded["errors"][name]


@pytest.mark.heavy
def test_a_whole_checkpoint_is_loaded_and_a_head_of_another_task_may_stay_behind(loaded: Any) -> None:
    assert (loaded["errors"]["whole"], loaded["errors"]["without_its_head"]) == ("", "")


@pytest.mark.heavy
def test_external_data_that_only_its_owner_could_read_is_opened_to_all(loaded: Any) -> None:
    assert loaded["modes"] == {"model.onnx": 0o644, "model.onnx_data": 0o644}


@pytest.mark.heavy
def test_the_exporter_knows_every_option_and_does_not_validate_in_our_place(loaded: Any) -> None:
    # It takes any keyword without a word, and what it finds wrong is only a warning.
    assert (loaded["swallowed"], loaded["validated"]) == ([], True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (is_code, "brings Python code of its own"),
        (is_a_pickle, "set `allow_pickle = true`"),
    ],
)
def test_what_would_run_code_is_refused_before_anything_starts(
    spoil: Any, said: str, classifier: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(classifier, source)
    spoil(source)
    ran = build(source, tmp_path)
    assert (ran.code, said in ran.err, ran.out) == (7, True, ""), ran.err
    assert "[1/5]" not in ran.err


def test_a_model_without_a_tokenizer_is_refused_before_anything_starts(classifier: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(classifier, source)
    has_no_tokenizer(source)
    ran = build(source, tmp_path)
    assert (ran.code, "has no tokenizer, and this model reads or writes texts" in ran.err) == (7, True), ran.err
    assert 'tokenizer = "org/name"' in ran.err
    assert "[1/5]" not in ran.err


@pytest.mark.heavy
def test_a_librarys_failure_is_a_sentence_and_its_own_words_are_kept_for_debugging(
    classifier: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(classifier, source)
    has_an_activation_that_nobody_knows(source)
    ran = build(source, tmp_path, "--debug")
    assert ran.code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert "transformers cannot load the checkpoint" in ran.err
    assert "The export process says:\nTraceback" in ran.err
    assert "KeyError: 'telepath'" in ran.err


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("what", "meant"),
    [
        ("optimum's list", "It does not know this architecture. Export it with a program that does"),
        ("opset", "in the opset it is exported to"),
        ("torch's opset", "in the opset it is exported to"),
        ("torch's memory", "Memory ran out"),
        ("numpy's memory", "Memory ran out"),
        ("code", "brings Python code of its own"),
    ],
)
def test_what_the_libraries_say_here_becomes_a_sentence(what: str, meant: str, loaded: Any) -> None:
    said = loaded["said"][what]
    assert said
    cause = known_failure(said)
    assert meant in (cause.sentence if cause else said), said
    assert cause is None or cause.hint


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'", "Memory ran out"),
        ("ImportError: libtorch_cpu.so: failed to map segment from shared object", "Memory ran out"),
        ("RuntimeError: could not create a primitive", "Memory ran out"),
        ("memory allocation of 1048576 bytes failed", "Memory ran out"),
        ("OpenBLAS error: Memory allocation still failed after 10 retries, giving up.", "Memory ran out"),
        ("ValueError: Opset 9 is not sufficient to export bert. At least 11 is required.", "opset"),
        ("ValueError: This protobuf of onnx model is too large; exceeds maximum protobuf size", "2 GB"),
    ],
)
def test_what_they_say_elsewhere_becomes_a_sentence(said: str, meant: str) -> None:
    cause = known_failure(said)
    assert cause is not None
    assert meant in cause.sentence
    assert cause.hint


def test_what_nobody_knows_has_no_cause() -> None:
    assert known_failure("IndexError: list index out of range") is None


# --- one commit, one truth ---


@pytest.mark.heavy
def test_weights_and_tokenizer_come_from_the_commit_that_is_named(tmp_path: Path) -> None:
    first = bert(tmp_path / "first")
    papers = {
        "README.md": b"---\nlicense: llama3\n---\n# A model card\n",
        "License.txt": b"You may.\n",
        "NOTICE": b"Made by others.\n",
    }
    for name, data in papers.items():
        (first / name).write_bytes(data)
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    # Since then main has other weights, and a tokenizer that numbers the same pieces in another way.
    moved = files | {"model.safetensors": (bert(tmp_path / "second", seed=1) / "model.safetensors").read_bytes()}
    plain = json.loads(files["tokenizer.json"])
    vocabulary = plain["model"]["vocab"]
    one, other = "a", "e"
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    moved["tokenizer.json"] = json.dumps(plain).encode()
    with HubServer(accepted=True) as hub:
        repo = hub.add_repo("acme/gated", gated=True, card={"license": "llama3"})
        commit = repo.commit(files)
        repo.commit(moved)
        environment = {
            **hub.environment,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": hub.token,
        }
        out = tmp_path / "out"
        ran = modeldrop("build", f"acme/gated@{commit}", "-o", out, "--variants", "fp32", environment=environment)
    assert ran.code == 0, ran.err
    ids = Tokenizer.from_file(str(out / "tokenizer.json")).encode("a e").ids
    assert ids == Tokenizer.from_str(files["tokenizer.json"].decode()).encode("a e").ids
    assert ids != Tokenizer.from_str(moved["tokenizer.json"].decode()).encode("a e").ids

    original = transformers.AutoModel.from_pretrained(first).eval()
    with torch.inference_mode():
        expected = original(input_ids=torch.tensor([ids])).last_hidden_state.numpy()
    session = onnxruntime.InferenceSession(out / "onnx" / "model.onnx")
    inputs = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    answer = session.run(None, inputs | {"token_type_ids": np.zeros((1, len(ids)), np.int64)})[0]
    assert np.abs(answer - expected).max() < 1e-4

    # The model card and the licence come along, and whoever reads the report learns of the terms.
    assert {name: (out / name).read_bytes() for name in papers} == papers
    source = json.loads((out / "manifest.json").read_text("utf-8"))["source"]
    assert (source["commit"], source["licence"], source["gated"]) == (commit, "llama3", True)
    report = (out / "report.html").read_text("utf-8")
    assert "llama3 · gated" in report
    assert "to be accepted on the Hub before it may be used" in report


def interpreter(folder: Path, program: str) -> dict[str, str]:
    """An exporter's interpreter that is started by a shell script, which has ``$PYTHON``."""
    path = folder / "exporter's python"
    path.write_text(f"#!/bin/sh\nPYTHON={shlex.quote(exporter_python())}\n{program}\n")
    path.chmod(0o755)
    return {"MODELDROP_EXPORTER_PYTHON": str(path), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}


@pytest.mark.heavy
def test_an_export_that_is_wrong_is_no_warning(classifier: Path, tmp_path: Path) -> None:
    wrong = 'case "$3" in *.export) exec "$PYTHON" -P -m tests.export.wrong_export "$4";; esac\nexec "$PYTHON" "$@"'
    arguments = ("publish", classifier, tmp_path / "registry/m", "--variants", "fp32")
    ran = modeldrop(*arguments, environment=interpreter(tmp_path, wrong))
    assert ran.code == 10, ran.err
    for said in ("does not behave like the original", "fp32: max_abs is ", "required is <= 0.001", "worst on '"):
        assert said in ran.err, said
    assert not list((tmp_path / "registry").glob("m/v*"))


# --- memory, disk, files ---


@pytest.mark.heavy
def test_a_worker_that_gets_too_little_memory_says_so(classifier: Path, tmp_path: Path) -> None:
    environment = interpreter(tmp_path, 'ulimit -v 300000\nexec "$PYTHON" "$@"')
    ran = modeldrop(
        "build", classifier, "-o", tmp_path / "out", environment=environment | {"OPENBLAS_NUM_THREADS": "1"}
    )
    assert ran.code == 9, ran.err
    assert "Memory ran out." in ran.err
    assert "Build on a machine with more memory" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.heavy
def test_a_worker_that_the_kernel_kills_is_said_to_lack_memory(classifier: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modeldrop", "build", classifier, "-o", tmp_path / "out"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    workers: list[psutil.Process] = []
    while not workers:
        assert process.poll() is None
        workers = psutil.Process(process.pid).children()
        time.sleep(0.02)
    workers[0].kill()
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, out) == (9, ""), err
    assert "The export process was killed, most likely because memory ran out." in err
    assert list(tmp_path.iterdir()) == []


def checked(folder: Path, variants: str) -> CheckedRequest:
    recipe = Recipe(variants=tuple(variants.split(",")))
    return check_request(make_request(resolve_source(str(folder)), recipe))


def test_memory_that_a_build_needs_is_said_before_it_starts(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = checked(classifier, "fp32,int8")
    need = resources.needs(asked).memory
    monkeypatch.setattr(resources, "memory_limit", lambda: need // 2)
    there, wanted = size_text(need // 2), size_text(need)
    with pytest.raises(ExportError, match=f"has {there} of memory; building this model needs about {wanted}"):
        resources.check_resources(resources.needs(asked), tmp_path)
    monkeypatch.setattr(resources, "memory_limit", lambda: need)
    resources.check_resources(resources.needs(asked), tmp_path)


def test_disk_that_a_build_needs_grows_with_its_variants(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = (classifier / "model.safetensors").stat().st_size
    free = shutil.disk_usage(tmp_path)._replace(free=(16 << 20) + 3 * weights)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    resources.check_resources(resources.needs(checked(classifier, "fp32,int8,fp16")), tmp_path)
    with pytest.raises(DiskError, match="needs about 18"):
        resources.check_resources(resources.needs(checked(classifier, "fp32,int8,fp16,int4")), tmp_path)


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "max"
    meminfo.write_text("MemTotal: 8000 kB\nSwapTotal: 2000 kB\n")
    limit.write_text("max\n")
    assert resources.memory_limit(meminfo, (limit,)) == 10_240_000
    limit.write_text("5000000\n")
    assert resources.memory_limit(meminfo, (limit, tmp_path / "none")) == 5_000_000
