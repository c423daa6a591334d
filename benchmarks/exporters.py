"""The two exporters beside each other: what building takes, and what their graphs are worth.

``python -m benchmarks.exporters [--write docs/exporters.md]``; ``--rounds`` and ``--kinds`` make it shorter. Both need
their environment (``.venv`` and ``.venv-transformers``, which ``make test`` makes).

- Building: all-MiniLM-L6-v2 in fp32 and int8, proven and measured, by each in turn, every second round in reverse
  order; medians. Processor time and memory are the kernel's count of the whole build (the largest process of each).
- Graphs: of every kind below, six layers of 384 with random weights but for the first, which is MiniLM itself. How far
  fp32 and int8 are from the original is what the manifests say; the milliseconds are processor time of one thread, one
  text of 32 tokens and 32 of them, the two exporters' graphs asked in turn, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
import transformers

from benchmarks.document import replace_between
from benchmarks.machine import load, machine, versions
from benchmarks.process import Measured, measure
from benchmarks.workspace import ROOT, SOURCE, modeldrop
from modeldrop.format.manifest import Manifest, parse_manifest
from tests.export.recipes import loosened
from tests.helpers.checkpoints import save_tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

BEGIN, END = "<!-- exporters: written by python -m benchmarks.exporters --write -->", "<!-- end of exporters -->"
PYTHONS = {"optimum": Path(sys.executable), "transformers": ROOT / ".venv-transformers/bin/python"}
ROUNDS, ASKED = 3, 21
_LENGTH = 32
_SHAPE = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536,
    "max_position_embeddings": 514, "pad_token_id": 0,
}  # fmt: skip
_METRICS = ("cosine_mean", "cosine_min", "max_abs")
KINDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("RobertaModel", {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaModel", {"type_vocab_size": 1}),
    "deberta-v2": (
        "DebertaV2Model",
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
    ),
    "modernbert": ("ModernBertModel", {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}),
    "qwen3": ("Qwen3Model", {"num_key_value_heads": 2, "head_dim": 64, "eos_token_id": 3, "bos_token_id": 2}),
}
"""The model_types that both know, beside MiniLM's bert: the class, and what its config needs besides."""


@dataclass(frozen=True, slots=True)
class Built:
    """A build of one exporter."""

    folder: Path
    used: Measured

    @property
    def manifest(self) -> Manifest:
        return parse_manifest((self.folder / "manifest.json").read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exporters", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in this Markdown file")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"how often to build MiniLM ({ROUNDS})")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="beside MiniLM (all)")
    arguments = parser.parse_args()
    busy = load()
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        work = Path(folder).resolve()
        rounds = [_round(work, number) for number in range(arguments.rounds)]
        pairs = {"bert (MiniLM)": rounds[0]}
        for kind in arguments.kinds:
            source = _checkpoint(work / kind, kind)
            pairs[kind] = {name: _build(work, source, name) for name in PYTHONS}
        text = f"{machine()}; load average before the run {busy}.\n{versions()}.\n\n"
        text += _costs(rounds) + "\n\n" + _graphs(pairs)
    print(text)
    if arguments.write:
        replace_between(arguments.write, BEGIN, END, f"\n{text}\n")
    return 0


def _round(work: Path, number: int) -> dict[str, Built]:
    names = list(PYTHONS)
    return {name: _build(work, SOURCE, name, number) for name in (reversed(names) if number % 2 else names)}


def _build(work: Path, source: Path, exporter: str, number: int = 0) -> Built:
    folder = work / f"{source.name}-{exporter}-{number}"
    recipe = loosened(work, () if source == SOURCE else _METRICS)
    recipe.write_text(f'exporter = "{exporter}"\n{recipe.read_text("utf-8")}', "utf-8")
    command = modeldrop("build", str(source), "-o", str(folder), "--quiet", "--recipe", str(recipe))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODELDROP_", "HF_"))}
    return Built(folder, measure(command, kept | {"MODELDROP_EXPORTER_PYTHON": str(PYTHONS[exporter])}, work))


def _checkpoint(folder: Path, kind: str) -> Path:
    name, more = KINDS[kind]
    folder.mkdir()
    tokenizer = save_tokenizer(folder, kind=transformers.PreTrainedTokenizerFast)
    model = getattr(transformers, name)
    torch.manual_seed(0)
    model(model.config_class(vocab_size=len(tokenizer), **_SHAPE, **more)).save_pretrained(folder)
    return folder


def _costs(rounds: list[dict[str, Built]]) -> str:
    lines = ["| MiniLM, fp32 and int8 | wall | processor | memory |", "| --- | ---: | ---: | ---: |"]
    for name in PYTHONS:
        used = [one[name].used for one in rounds]
        seconds, processor, memory = (
            statistics.median(getattr(one, field) for one in used) for field in ("seconds", "processor", "megabytes")
        )
        lines.append(f"| {name} | {seconds:.1f} s | {processor:.1f} s | {memory:.0f} MB |")
    return "\n".join(lines)


def _graphs(pairs: Mapping[str, dict[str, Built]]) -> str:
    titles = (
        "kind", "exporter", "build, processor", "fp32: MB", "max abs", "int8: MB", "cosine mean / min",
        "fp32: ms 1 / 32", "int8: ms 1 / 32",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", f"| --- | --- |{' ---: |' * (len(titles) - 2)}"]
    for kind, pair in pairs.items():
        asked = {variant: _asked(pair, variant) for variant in ("fp32", "int8")}
        for name, built in pair.items():
            manifest = built.manifest
            full, small = (manifest.variant(variant) for variant in asked)
            assert full is not None
            assert small is not None
            told = small.fidelity.metrics
            times = " | ".join(f"{one:.1f} / {many:.0f}" for one, many in (asked[v][name] for v in asked))
            lines.append(
                f"| {kind} | {name} | {built.used.processor:.0f} s | {manifest.weights_of(full) / 1e6:.1f} "
                f"| {full.fidelity.metrics['max_abs']:.1e} | {manifest.weights_of(small) / 1e6:.1f} "
                f"| {told['cosine_mean']:.4f} / {told['cosine_min']:.4f} | {times} |"
            )
    return "\n".join(lines)


def _asked(pair: Mapping[str, Built], variant: str) -> dict[str, tuple[float, float]]:
    """Milliseconds of one thread for one text and for 32, by exporter."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {}
    for name, built in pair.items():
        found = built.manifest.variant(variant)
        assert found is not None
        sessions[name] = onnxruntime.InferenceSession(
            str(built.folder / found.model), options, providers=["CPUExecutionProvider"]
        )
    taken: dict[str, list[list[float]]] = {name: [[], []] for name in sessions}
    for number in range(ASKED):
        for place, batch in enumerate((1, _LENGTH)):
            for name in reversed(sessions) if number % 2 else sessions:
                began = time.process_time()
                sessions[name].run(None, _feeds(sessions[name], batch))
                taken[name][place].append(1e3 * (time.process_time() - began))
    return {name: (statistics.median(one), statistics.median(many)) for name, (one, many) in taken.items()}


def _feeds(session: onnxruntime.InferenceSession, batch: int) -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 300, (batch, _LENGTH))
    values = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.arange(_LENGTH) + np.zeros_like(ids),
    }
    return {one.name: values[one.name] for one in session.get_inputs()}


if __name__ == "__main__":
    sys.exit(main())
