"""Export one checkpoint folder to ONNX in fp32, and record what the original answers.

Runs as ``python -m modeldrop.export.workers.export REQUEST``, offline, with only torch's own libraries beside it.
The request: ``source`` and ``output`` folders, ``reference`` (a file to write), ``task``, ``samples`` (see
``Sample.to_json``), ``golden`` (indices of samples), ``max_length`` and ``opset`` (or null), ``allow_pickle``,
``trust_remote_code``, ``openvino`` (whether variants are made for it), ``beside`` (whether variants are made while the
original answers).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.samples import Sample, sample_from
from modeldrop.export.transformers5 import mend
from modeldrop.export.workers import families
from modeldrop.export.workers.checkpoint import Checkpoint
from modeldrop.export.workers.environment import installed
from modeldrop.export.workers.families.pictures import check_pictures
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.export.workers.reference import Reference
from modeldrop.export.workers.timing import median_ms

_TOOLCHAIN = (
    "torch", "transformers", "tokenizers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "safetensors", "numpy",
)  # fmt: skip
_WRITING = ("text-generation", "text2text-generation", "automatic-speech-recognition")


def work(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Do all of it; the result describes the original and the toolchain.

    The graphs are complete when the step ``answers`` begins.
    """
    output = Path(request["output"])
    torch.manual_seed(0)
    events.step("load")
    samples = [sample_from(sample) for sample in request["samples"]]
    check_pictures(samples)
    mend(Path(request["source"]))
    model = families.load(
        Checkpoint(
            folder=Path(request["source"]),
            task=request["task"],
            max_length=request["max_length"],
            opset=request["opset"],
            allow_pickle=request["allow_pickle"],
            trust_remote_code=request["trust_remote_code"],
        )
    )
    events.step("export")
    model.export(output)
    model.save_companions(output)
    openvino_tokenizer = _openvino_tokenizer(request, output, samples)
    timed = model.timed(samples)
    speed = [median_ms(one.original) for one in timed]
    events.step("answers")
    if request["beside"]:
        # From here the parent makes variants, mostly with one thread: PyTorch leaves it a processor.
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    chains = []
    for chain in model.ask(samples):
        chains.append(chain)
        events.progress(len(chains), max(len(samples), len(chains)))
    Reference(chains, model.golden(chains, request["golden"]), [one.chain for one in timed]).save(
        Path(request["reference"])
    )
    return {
        "labels": list(model.labels),
        "openvino_tokenizer": openvino_tokenizer,
        "max_length": model.max_length,
        "framework": f"PyTorch {torch.__version__}",
        "speed": speed,
        "environment": installed("modeldrop", ("build", "openvino")),
        "toolchain": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in (*_TOOLCHAIN, *openvino_tokenizer["made_by"])},
    }


def _openvino_tokenizer(request: dict[str, Any], output: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    if not request["openvino"] or not (output / "tokenizer.json").is_file():
        return {"files": [], "lacks": "", "made_by": []}
    from modeldrop.export.workers.openvino_tokenizer import convert

    texts = dict.fromkeys((*BUILT_IN, *(text for sample in samples for text in sample.texts)))
    return convert(output, list(texts), writes=request["task"] in _WRITING)


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    serve(work)
