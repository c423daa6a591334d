"""Export one checkpoint folder to ONNX in fp32, and record what the original answers.

Runs as ``python -m modeldrop.export.workers.export REQUEST``, offline, with only torch's own libraries beside it; see
``messages.ExportRequest``.
"""

from __future__ import annotations

import os

import torch

from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.environments.exporters import EXPORTERS, OPTIMUM, TRANSFORMERS
from modeldrop.export.messages import ExportAnswer, ExportRequest, OpenVinoTokenizer
from modeldrop.export.models.shared import loaded_model
from modeldrop.export.models.shared.checkpoint import has_graphs
from modeldrop.export.models.shared.media import check_pictures
from modeldrop.export.transformers5 import fix_configs
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.export.workers.recording import record
from modeldrop.format.tasks import task_of

_TOOLCHAIN = ("torch", "transformers", "tokenizers", "onnx", "onnxruntime", "safetensors", "numpy")
_OF_EXPORTER = {OPTIMUM.name: ("optimum", "optimum-onnx"), TRANSFORMERS.name: ("onnxscript", "onnx-ir")}


def work(request: ExportRequest, events: Events) -> ExportAnswer:
    """Do all of it. The graphs are complete when the step ``answers`` begins."""
    torch.manual_seed(0)
    events.step("load")
    check_pictures(request.samples)
    ready, by_4 = has_graphs(request.checkpoint), request.checkpoint.exporter == OPTIMUM.name
    fix_configs(request.checkpoint.folder, ready=ready, by_4=by_4)
    model = loaded_model.load_model(request.checkpoint)
    exporter = request.checkpoint.exporter
    return record(
        model,
        request,
        events,
        framework=lambda: f"PyTorch {torch.__version__}",
        libraries=(*_TOOLCHAIN, *_OF_EXPORTER[exporter]),
        extras=(EXPORTERS[exporter].extra, "openvino"),
        tokenize=_openvino_tokenizer,
        before_answers=_leave_a_processor,
    )


def _leave_a_processor() -> None:
    # From here the parent makes variants, mostly with one thread: PyTorch leaves it a processor.
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def _openvino_tokenizer(request: ExportRequest) -> OpenVinoTokenizer:
    if not request.openvino or not (request.output / "tokenizer.json").is_file():
        return OpenVinoTokenizer()
    from modeldrop.export.quantizers.openvino_tokenizer import convert

    texts = dict.fromkeys((*BUILT_IN, *(text for sample in request.samples for text in sample.texts)))
    return convert(request.output, list(texts), writes=task_of(request.checkpoint.task).writes)


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    serve(work, ExportRequest)
