"""The two exporters beside each other: what building takes, and what their graphs are worth.

``python -m benchmarks.exporters [--write docs/exporters.md]``; ``--rounds``, ``--kinds`` and ``--asked`` make it
shorter. Both need their environment (``.venv`` and ``.venv-transformers``, which ``make test`` makes).

- Building: all-MiniLM-L6-v2 in fp32 and int8, proven and measured, by each in turn, every second round in reverse
  order; medians. Processor time and memory are the kernel's count of the whole build (the largest process of each).
- Graphs: of every kind below, six layers of 384 with random weights but for the first, which is MiniLM itself. How far
  fp32 and int8 are from the original is what the manifests say; the milliseconds are processor time of one thread, one
  text of 32 tokens (a picture of 128 x 128) and 32 of them, the two exporters' graphs asked in turn, medians.
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
from modeldrop.export.models.family import CLASSES
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
_VECTORS = ("cosine_mean", "cosine_min", "max_abs")
_PIXELS = 128
_ENDS = {"bos_token_id": 2, "eos_token_id": 3}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that both know: the class, what its config needs besides, and what its variants are measured by."""

    model: str
    more: Mapping[str, Any]
    metrics: tuple[str, ...] = _VECTORS

    @property
    def sees(self) -> bool:
        return "image_size" in self.more


_PICTURES = {"image_size": _PIXELS, "patch_size": 16}
KINDS: Mapping[str, Kind] = {
    "bert, classifier": Kind("BertForSequenceClassification", {"num_labels": 3}, CLASSES),
    "bert, token classifier": Kind("BertForTokenClassification", {"num_labels": 9}, (*CLASSES, "top5")),
    "vit, classifier": Kind(
        "ViTForImageClassification", _PICTURES | {"num_labels": 3, "intermediate_size": 1536}, CLASSES
    ),
    "dinov2": Kind("Dinov2Model", _PICTURES | {"mlp_ratio": 4}, (*_VECTORS, "neighbours")),
    "modernbert": Kind("ModernBertModel", {"cls_token_id": 2, "sep_token_id": 3, **_ENDS}),
    "xlm-roberta": Kind("XLMRobertaModel", {"type_vocab_size": 1}),
    "roberta": Kind("RobertaModel", {"type_vocab_size": 1}),
    "deberta-v2": Kind(
        "DebertaV2Model", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
    ),
    "qwen3": Kind("Qwen3Model", {"num_key_value_heads": 2, "head_dim": 64, **_ENDS}),
}
"""Beside MiniLM's bert. What hears is made by optimum alone, and so is what writes."""


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
    parser.add_argument("--asked", type=int, default=ASKED, metavar="N", help=f"how often to ask each graph ({ASKED})")
    arguments = parser.parse_args()
    busy = load()
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        work = Path(folder).resolve()
        rounds = [_round(work, number) for number in range(arguments.rounds)]
        lines = _graphs("bert (MiniLM)", rounds[0], arguments.asked) if rounds else []
        for kind in arguments.kinds:
            source = _checkpoint(work / kind.replace(", ", "-"), KINDS[kind])
            pair = {name: _build(work, source, name, metrics=KINDS[kind].metrics) for name in PYTHONS}
            lines += _graphs(kind, pair, arguments.asked)
            print(*lines[-len(pair) :], sep="\n", file=sys.stderr, flush=True)  # a long run says where it is
        text = f"{machine()}; load average before the run {busy}.\n{versions()}.\n\n"
        text += "\n\n".join([*([_costs(rounds)] if rounds else []), "\n".join([*_HEAD, *lines])])
    print(text)
    if arguments.write:
        replace_between(arguments.write, BEGIN, END, f"\n{text}\n")
    return 0


def _round(work: Path, number: int) -> dict[str, Built]:
    names = list(PYTHONS)
    return {name: _build(work, SOURCE, name, number) for name in (reversed(names) if number % 2 else names)}


def _build(work: Path, source: Path, exporter: str, number: int = 0, *, metrics: tuple[str, ...] = ()) -> Built:
    folder = work / f"{source.name}-{exporter}-{number}"
    recipe = loosened(work, metrics)
    recipe.write_text(f'exporter = "{exporter}"\n{recipe.read_text("utf-8")}', "utf-8")
    command = modeldrop("build", str(source), "-o", str(folder), "--quiet", "--recipe", str(recipe))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODELDROP_", "HF_"))}
    return Built(folder, measure(command, kept | {"MODELDROP_EXPORTER_PYTHON": str(PYTHONS[exporter])}, work))


def _checkpoint(folder: Path, kind: Kind) -> Path:
    folder.mkdir()
    model = getattr(transformers, kind.model)
    torch.manual_seed(0)
    if kind.sees:
        shape = {name: _SHAPE[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
        size = {"height": _PIXELS, "width": _PIXELS}
        transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    else:
        tokenizer = save_tokenizer(folder, kind=transformers.PreTrainedTokenizerFast)
        shape = _SHAPE | {"vocab_size": len(tokenizer)}
    model(model.config_class(**shape, **kind.more)).save_pretrained(folder)
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


_TITLES = (
    "kind", "exporter", "build, processor", "fp32: MB", "max abs", "int8: MB", "cosine mean / min", "fp32: ms 1 / 32",
    "int8: ms 1 / 32",
)  # fmt: skip
_HEAD = (f"| {' | '.join(_TITLES)} |", f"| --- | --- |{' ---: |' * (len(_TITLES) - 2)}")


def _graphs(kind: str, pair: Mapping[str, Built], times: int) -> list[str]:
    """The lines of a kind, one for each exporter."""
    asked = {variant: _asked(pair, variant, times) for variant in ("fp32", "int8")}
    lines = []
    for name, built in pair.items():
        manifest = built.manifest
        full, small = (manifest.variant(variant) for variant in asked)
        assert full is not None
        assert small is not None
        told = small.fidelity.metrics
        milliseconds = " | ".join(f"{one:.1f} / {many:.0f}" for one, many in (asked[v][name] for v in asked))
        lines.append(
            f"| {kind} | {name} | {built.used.processor:.0f} s | {manifest.weights_of(full) / 1e6:.1f} "
            f"| {full.fidelity.metrics['max_abs']:.1e} | {manifest.weights_of(small) / 1e6:.1f} "
            f"| {told['cosine_mean']:.4f} / {told['cosine_min']:.4f} | {milliseconds} |"
        )
    return lines


def _asked(pair: Mapping[str, Built], variant: str, times: int) -> dict[str, tuple[float, float]]:
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
    for number in range(times):
        for place, batch in enumerate((1, _LENGTH)):
            for name in reversed(sessions) if number % 2 else sessions:
                began = time.process_time()
                sessions[name].run(None, _feeds(sessions[name], batch))
                taken[name][place].append(1e3 * (time.process_time() - began))
    return {name: (statistics.median(one), statistics.median(many)) for name, (one, many) in taken.items()}


def _feeds(session: onnxruntime.InferenceSession, batch: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 300, (batch, _LENGTH))
    values: dict[str, NDArray[Any]] = {
        "pixel_values": rng.standard_normal((batch, 3, _PIXELS, _PIXELS), np.float32),
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.arange(_LENGTH) + np.zeros_like(ids),
    }
    return {one.name: values[one.name] for one in session.get_inputs()}


if __name__ == "__main__":
    sys.exit(main())
