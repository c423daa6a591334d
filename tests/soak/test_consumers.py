"""Programs load what was fetched for them, as docs/consumers.md shows; what came of it is written into that page.

Each program runs in an environment of its own (``tests/servers/consumers.py``), offline.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.models.family import TOKENS
from modeldrop.fetcher.fetch import fetch
from tests.docs.consumer_calls import PAGE, calls_of
from tests.export.recipes import loosened
from tests.helpers.checkpoints import bert, make_embedder, qwen, t5
from tests.helpers.command_line import modeldrop
from tests.servers.consumers import python_of
from tests.servers.node import NODE_FOLDER, node

pytestmark = [pytest.mark.soak, pytest.mark.heavy]

ONNX = ("fp32", "fp16", "int8", "int8-accurate", "int4")
TEXTS = list(BUILT_IN)
NEW = 8
BEGIN, END = "<!-- begin: written by tests/soak/test_consumers.py -->\n", "<!-- end -->\n"
_HARNESS = """\
import json, sys
import numpy
folders, texts, code, answer = json.loads(sys.stdin.read())
found = []
for number, folder in enumerate(folders):
    names = {"folder": folder, "texts": texts}
    exec(code.replace('"embedder"', f'"embedder-{number}"'), names)  # fastembed takes no name twice
    found.append(numpy.asarray(eval(answer, names)).tolist())
print("\\n" + json.dumps(found))
"""
"""What each program's environment runs: the call of the page for every folder, imported once."""
_POOL = """
mask = inputs["attention_mask"].numpy()[..., None]
vectors = (hidden.detach().numpy() * mask).sum(1) / mask.sum(1)
"""
_ITS_TOKENS = """
read = pipeline.get_tokenizer().encode(texts[0])
tokens = pipeline.generate(read, max_new_tokens=8, do_sample=False).tokens[0]
"""
_LANGCHAIN = """\
from langchain_huggingface import HuggingFaceEmbeddings
vectors = HuggingFaceEmbeddings(model_name=folder, model_kwargs={"backend": "onnx"}).embed_documents(texts)
"""
_LLAMA_INDEX = """\
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
vectors = HuggingFaceEmbedding(folder, backend="onnx").get_text_embedding_batch(texts)
"""
_HAYSTACK = """\
from haystack.dataclasses import Document
from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersDocumentEmbedder
embedder = SentenceTransformersDocumentEmbedder(model=folder, backend="onnx", progress_bar=False)
embedder.warm_up()
vectors = [document.embedding for document in embedder.run([Document(content=text) for text in texts])["documents"]]
"""
_LIGHT_EMBED = """\
from light_embed import TextEmbedding
model = TextEmbedding(folder, model_config={"onnx_file": "onnx/model.onnx", "pooling_config_path": "1_Pooling"})
vectors = model.encode(texts)
"""
_ONNXRUNTIME = """\
import onnxruntime
from pathlib import Path
from tokenizers import Tokenizer
import numpy
tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
session = onnxruntime.InferenceSession(Path(folder, "onnx/model.onnx"))
read = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
encodings = tokenizer.encode_batch(texts)
feeds = {name: numpy.array([getattr(one, own) for one in encodings]) for name, own in read.items()}
(vectors,) = session.run(["sentence_embedding"], feeds)
"""
_OPENVINO = """\
import openvino
from pathlib import Path
from tokenizers import Tokenizer
import numpy
tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
model = openvino.Core().compile_model(Path(folder, "openvino_model.xml"), "CPU")
read = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
encodings = tokenizer.encode_batch(texts)
feeds = {name: numpy.array([getattr(one, own) for one in encodings]) for name, own in read.items()}
vectors = model(feeds)["sentence_embedding"]
"""
_ONNXRUNTIME_WEB = """\
import { AutoTokenizer } from '@huggingface/transformers';
import * as ort from 'onnxruntime-web/wasm';

ort.env.wasm.numThreads = 1;
const tokenizer = await AutoTokenizer.from_pretrained(folder, { local_files_only: true });
const bytes = (name) => new Uint8Array(readFileSync(`${folder}/onnx/${name}`));
const beside = readdirSync(`${folder}/onnx`).filter((name) => name.endsWith('_data'));
const externalData = beside.map((name) => ({ path: name, data: bytes(name) }));
const session = await ort.InferenceSession.create(bytes('model.onnx'), { externalData });
const vectors = [];
for (const text of texts) {
  const read = tokenizer(text, { truncation: true });
  const tensor = (name) => new ort.Tensor('int64', read[name].data, read[name].dims);
  const feeds = Object.fromEntries(session.inputNames.map((name) => [name, tensor(name)]));
  vectors.push(Array.from((await session.run(feeds)).sentence_embedding.data));
}
"""


@dataclass(frozen=True)
class Program:
    """A row of the matrix: a program, what it is given, how it is called and where it runs."""

    name: str
    distribution: str
    consumer: str
    kind: str
    variants: tuple[str, ...]
    code: str
    answer: str = "vectors"
    environment: str = ""

    @property
    def python(self) -> Path:
        return python_of(self.environment) if self.environment else Path(sys.executable)

    def ask(self, folders: list[str]) -> list[Any]:
        """What it answers, for each folder."""
        said = _run([str(self.python), "-c", _HARNESS], json.dumps([folders, TEXTS, self.code, self.answer]))
        found: list[Any] = json.loads(said.splitlines()[-1])
        return found

    @property
    def release(self) -> str:
        shown = f"import importlib.metadata as m; print(m.version({self.distribution!r}))"
        return _run([str(self.python), "-c", shown], "").strip()


@dataclass(frozen=True)
class NodeProgram(Program):
    """One that runs on Node; its distribution is npm's name."""

    def ask(self, folders: list[str]) -> list[Any]:
        script = NODE_FOLDER / "transformers_js" / "consumer.mjs"
        script.write_text(
            "import { readFileSync, readdirSync } from 'node:fs';\n"
            "const [folder, texts] = JSON.parse(readFileSync(0));\n"
            f"{self.code}\nconst lists = vectors.tolist ? vectors.tolist() : vectors;\n"
            "process.stdout.write(JSON.stringify(lists), () => process.exit(0));\n"
        )
        said = (_run([str(node()), str(script)], json.dumps([folder, TEXTS])) for folder in folders)
        return [json.loads(one.splitlines()[-1]) for one in said]

    @property
    def release(self) -> str:
        package = NODE_FOLDER / "transformers_js/node_modules" / self.distribution / "package.json"
        return str(json.loads(package.read_text())["version"])


_OPTIMUM, _INTEL, _GENAI, _OPENVINO_GENAI = "optimum", "optimum-intel", "onnxruntime-genai", "openvino-genai"
_ST, _JS, _FRAMEWORKS = "sentence-transformers", "transformers.js", "frameworks"
_AS_OPENVINO = ("openvino-int8",)
PROGRAMS = (
    Program("onnxruntime", "onnxruntime", "tei", "embedder", ONNX, _ONNXRUNTIME),
    Program("openvino", "openvino", _INTEL, "embedder", _AS_OPENVINO, _OPENVINO),
    Program(_ST, _ST, _ST, "embedder", ONNX, calls_of(_ST)[0]),
    Program(
        f"{_ST}, OpenVINO", _ST, _ST, "embedder", _AS_OPENVINO,
        calls_of(_ST)[0].replace('"onnx"', '"openvino"'), environment=_INTEL,
    ),
    Program("fastembed", "fastembed", "fastembed", "embedder", ONNX, calls_of("fastembed")[0]),
    Program("optimum, embedder", "optimum-onnx", _OPTIMUM, "embedder", ONNX, calls_of(_OPTIMUM)[0] + _POOL),
    Program("optimum, T5", "optimum-onnx", _OPTIMUM, "t5", ("fp32", "int8"), calls_of(_OPTIMUM)[1], "tokens[0, 1:]"),
    NodeProgram(_JS, "@huggingface/transformers", _JS, "embedder", ONNX, calls_of(_JS)[0]),
    NodeProgram("onnxruntime-web", "onnxruntime-web", _JS, "embedder", ONNX, _ONNXRUNTIME_WEB),
    Program(
        "optimum-intel, language model", _INTEL, _INTEL, "qwen", _AS_OPENVINO,
        calls_of(_INTEL)[0], f"tokens[0, -{NEW}:]", _INTEL,
    ),
    Program(
        "optimum-intel, T5", _INTEL, _INTEL, "t5", ("openvino-fp16",),
        calls_of(_OPTIMUM)[1].replace("optimum.onnxruntime", "optimum.intel").replace("ORT", "OV"),
        "tokens[0, 1:]", _INTEL,
    ),
    Program(
        _OPENVINO_GENAI, _OPENVINO_GENAI, _OPENVINO_GENAI, "qwen", _AS_OPENVINO,
        calls_of(_OPENVINO_GENAI)[0] + _ITS_TOKENS,
        "tokens",
        _OPENVINO_GENAI,
    ),
    Program(
        _GENAI, _GENAI, _GENAI, "qwen", ("fp32", "fp16", "int8", "int4"), calls_of(_GENAI)[0],
        f"tokens[-{NEW}:]", _GENAI,
    ),
    Program("LangChain", "langchain-huggingface", _ST, "embedder", ONNX, _LANGCHAIN, environment=_FRAMEWORKS),
    Program(
        "LlamaIndex", "llama-index-embeddings-huggingface", _ST, "embedder", ONNX, _LLAMA_INDEX,
        environment=_FRAMEWORKS,
    ),
    Program("Haystack", "sentence-transformers-haystack", _ST, "embedder", ONNX, _HAYSTACK, environment=_FRAMEWORKS),
    Program("light-embed", "light-embed", "tei", "embedder", ONNX, _LIGHT_EMBED, environment="light-embed"),
)  # fmt: skip


def _run(command: list[str], given: str) -> str:
    ran = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, cwd="/",
        env=os.environ | {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


def embedder(folder: Path) -> Path:
    return make_embedder(bert(folder), {"pooling_mode_mean_tokens": True}, dense=False, normalize=True)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models: an embedder, and two that write."""
    folder = tmp_path_factory.mktemp("consumers")
    embeds = ("cosine_mean", "cosine_min", "max_abs", "neighbours")
    for name, source, metrics, variants in (
        ("embedder", embedder(folder / "embedder"), embeds, (*ONNX[1:], "openvino-int8")),
        ("qwen", qwen(folder / "qwen"), TOKENS, ("fp16", "int8", "int4", "openvino-int8")),
        ("t5", t5(folder / "t5"), TOKENS, ("int8", "openvino-fp16")),
    ):
        recipe = loosened(folder, metrics, variants)
        ran = modeldrop("publish", source, folder / "registry" / name, "--recipe", recipe, "--external-data", "always")
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def originals(registry: Path) -> Mapping[str, np.ndarray[Any, Any]]:
    """What the checkpoints answer in their own libraries: vectors, and the next tokens of the first text."""
    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(str(registry / "embedder"), device="cpu").encode(TEXTS, batch_size=1)
    found = {"embedder": np.asarray(vectors)}
    for name, kind in (("qwen", transformers.AutoModelForCausalLM), ("t5", transformers.AutoModelForSeq2SeqLM)):
        inputs = transformers.AutoTokenizer.from_pretrained(registry / name)(TEXTS[0], return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            found[name] = (
                kind.from_pretrained(registry / name)
                .generate(**inputs, max_new_tokens=NEW, do_sample=False)[0, -NEW:]
                .numpy()
            )
    return found


@pytest.fixture(scope="module")
def cells() -> Iterator[dict[tuple[Program, str], str]]:
    """What came of each program and variant; written into the page at the end."""
    found: dict[tuple[Program, str], str] = {}
    yield found
    if len(found) == sum(len(program.variants) for program in PROGRAMS):
        head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        PAGE.write_text(head + BEGIN + "\n" + _table(found) + "\n" + END + rest.partition(END)[2], "utf-8")


def _table(found: Mapping[tuple[Program, str], str]) -> str:
    lines = ["| program | release | fetched `--for` | what came of it |", "| --- | --- | --- | --- |"]
    for program in PROGRAMS:
        cells = ", ".join(f"`{variant}` {found[program, variant]}" for variant in program.variants)
        lines.append(f"| {program.name} | {program.release} | `{program.consumer}` | {cells} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_loads_what_was_fetched_for_it(
    registry: Path,
    originals: Mapping[str, np.ndarray[Any, Any]],
    cells: dict[tuple[Program, str], str],
    program: Program,
    tmp_path: Path,
) -> None:
    reference = f"{registry}/registry/{program.kind}"
    fetched = [fetch(reference, tmp_path, variant=name, consumer=program.consumer) for name in program.variants]
    original = originals[program.kind]
    for snapshot, said in zip(fetched, program.ask([str(snapshot) for snapshot in fetched]), strict=True):
        answer, variant = np.array(said), snapshot.variant
        if program.kind == "embedder":
            lengths = np.linalg.norm(answer, axis=-1) * np.linalg.norm(original, axis=-1)
            least = ((answer * original).sum(-1) / lengths).min()
            cells[program, variant] = "exact" if least > 0.99999 else f"{least:.4f}"
            found = snapshot.manifest.variant(variant)
            assert found is not None
            assert least > found.fidelity.metrics["cosine_min"] - 0.02, variant
        else:
            pairs = enumerate(zip(answer, original, strict=False))
            same = next((place for place, (one, other) in pairs if one != other), len(answer))
            cells[program, variant] = f"{same} of {len(original)} tokens"
            assert variant != "fp32" or same == len(original)
