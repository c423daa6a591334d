"""Export one checkpoint folder to ONNX in fp32, and record what the original answers.

Runs as ``python -m modeldrop.export.workers.export REQUEST``, offline, with only torch's own libraries beside it; see
``messages.ExportRequest``.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.messages import ExportAnswer, ExportRequest, OpenVinoTokenizer
from modeldrop.export.models.shared import loaded_model
from modeldrop.export.models.shared.checkpoint import has_graphs
from modeldrop.export.models.shared.media import check_pictures
from modeldrop.export.models.shared.reference import ReferenceRuns
from modeldrop.export.models.shared.timing import median_ms
from modeldrop.export.transformers5 import fix_configs
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.tasks import task_of

_TOOLCHAIN = (
    "torch", "transformers", "tokenizers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "safetensors", "numpy",
)  # fmt: skip


def work(request: ExportRequest, events: Events) -> ExportAnswer:
    """Do all of it. The graphs are complete when the step ``answers`` begins."""
    torch.manual_seed(0)
    events.step("load")
    check_pictures(request.samples)
    fix_configs(request.checkpoint.folder, ready=has_graphs(request.checkpoint))
    model = loaded_model.load_model(request.checkpoint)
    events.step("export")
    model.export(request.output)
    model.save_side_files(request.output)
    tokenizer = _openvino_tokenizer(request)
    timed = model.timed_runs(request.samples)
    one, batch = (median_ms(each.original) for each in timed)
    events.step("answers")
    if request.beside:
        # From here the parent makes variants, mostly with one thread: PyTorch leaves it a processor.
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    runs = []
    for run in model.runs(request.samples):
        runs.append(run)
        events.progress(len(runs), max(len(request.samples), len(runs)))
    golden = model.golden_runs(runs, request.golden)
    ReferenceRuns(runs, golden, [each.run for each in timed]).save(request.reference)
    libraries = (*_TOOLCHAIN, *tokenizer.made_by)
    return ExportAnswer(
        labels=tuple(model.labels),
        max_length=model.max_length,
        embedding=model.embedding(runs),
        framework=f"PyTorch {torch.__version__}",
        speed=(one, batch),
        openvino_tokenizer=tokenizer,
        environment=_installed("modeldrop", ("build", "openvino")),
        toolchain={"python": platform.python_version()}
        | {library: importlib.metadata.version(library) for library in libraries},
    )


def _openvino_tokenizer(request: ExportRequest) -> OpenVinoTokenizer:
    if not request.openvino or not (request.output / "tokenizer.json").is_file():
        return OpenVinoTokenizer()
    from modeldrop.export.quantizers.openvino_tokenizer import convert

    texts = dict.fromkeys((*BUILT_IN, *(text for sample in request.samples for text in sample.texts)))
    return convert(request.output, list(texts), writes=task_of(request.checkpoint.task).writes)


def _installed(package: str, extras: Iterable[str] = ()) -> dict[str, str]:
    """Releases by name of what a package and its extras require, and what that requires, as far as it is installed.

    Nothing else that is installed here is recorded: its names may be a company's own business.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    left = [(package, extra) for extra in ("", *extras)]
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
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
    serve(work, ExportRequest)
