"""Take graphs of any kind as they are, or convert a tabular framework's model or a torch module; record its answers.

Runs as ``python -m modeldrop.export.workers.generic REQUEST``; request and answer are those of ``export``. But for a
torch module, it needs neither PyTorch nor transformers.
"""

from __future__ import annotations

from modeldrop.export.messages import ExportAnswer, ExportRequest
from modeldrop.export.models.generic.worker import GenericModel
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.export.workers.recording import record


def work(request: ExportRequest, events: Events) -> ExportAnswer:
    """Do all of it. The graphs are complete when the step ``answers`` begins."""
    events.step("check")
    model = GenericModel(request)
    return record(
        model, request, events, framework=lambda: model.framework, libraries=model.libraries, extras=model.extras
    )


if __name__ == "__main__":
    serve(work, ExportRequest)
