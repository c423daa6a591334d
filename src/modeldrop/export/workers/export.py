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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.inputs import Sample, sample_from
from modeldrop.export.models.shared import loaded_model
from modeldrop.export.models.shared.checkpoint import Checkpoint
from modeldrop.export.models.shared.media import check_pictures
from modeldrop.export.models.shared.reference import Reference
from modeldrop.export.models.shared.timing import median_ms
from modeldrop.export.transformers5 import fix_configs
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.tasks import task_of

_TOOLCHAIN = (
    "torch", "transformers", "tokenizers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "safetensors", "numpy",
)  # fmt: skip


def work(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Do all of it; the result describes the original and the toolchain.

    The graphs are complete when the step ``answers`` begins.
    """
    output = Path(request["output"])
    torch.manual_seed(0)
    events.step("load")
    samples = [sample_from(sample) for sample in request["samples"]]
    check_pictures(samples)
    fix_configs(Path(request["source"]))
    model = loaded_model.load(
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
    model.save_side_files(output)
    openvino_tokenizer = _openvino_tokenizer(request, output, samples)
    timed = model.timed_runs(samples)
    speed = [median_ms(one.original) for one in timed]
    events.step("answers")
    if request["beside"]:
        # From here the parent makes variants, mostly with one thread: PyTorch leaves it a processor.
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    runs = []
    for run in model.runs(samples):
        runs.append(run)
        events.progress(len(runs), max(len(samples), len(runs)))
    Reference(runs, model.golden_runs(runs, request["golden"]), [one.run for one in timed]).save(
        Path(request["reference"])
    )
    return {
        "labels": list(model.labels),
        "openvino_tokenizer": openvino_tokenizer,
        "max_length": model.max_length,
        "framework": f"PyTorch {torch.__version__}",
        "speed": speed,
        "environment": _installed("modeldrop", ("build", "openvino")),
        "toolchain": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in (*_TOOLCHAIN, *openvino_tokenizer["made_by"])},
    }


def _openvino_tokenizer(request: dict[str, Any], output: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    if not request["openvino"] or not (output / "tokenizer.json").is_file():
        return {"files": [], "lacks": "", "made_by": []}
    from modeldrop.export.quantizers.openvino_tokenizer import convert

    texts = dict.fromkeys((*BUILT_IN, *(text for sample in samples for text in sample.texts)))
    return convert(output, list(texts), writes=task_of(request["task"]).writes)


def _installed(package: str, extras: Iterable[str] = ()) -> dict[str, str]:
    """Releases by name of what a package and its extras require, and what that requires, as far as it is installed.

    Nothing else that is installed here is told: its names may be a company's own business.
    """
    found: dict[str, str] = {}
    asked: set[tuple[str, str]] = set()
    left = [(package, extra) for extra in ("", *extras)]
    while left:
        name, extra = left.pop()
        if (name, extra) in asked:
            continue
        asked.add((name, extra))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = distribution.version
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(needed.name), more) for more in ("", *needed.extras)]
    return dict(sorted(found.items()))


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    serve(work)
