"""Take graphs of any kind as they are, or convert a tabular framework's model or a torch module; record its answers.

Runs as ``python -m modeldrop.export.workers.generic REQUEST``; request and answer are those of ``export``. But for a
torch module, it needs neither PyTorch nor transformers.
"""

from __future__ import annotations

import sys

from modeldrop.export.messages import ExportAnswer, ExportRequest
from modeldrop.export.models.generic.worker import GenericModel
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.export.workers.recording import record

# What these import where it is installed, and do not need for a model of their own: half of the build's time.
_LEFT_OUT = {"LightGBM": ("sklearn", "pandas"), "XGBoost": ("sklearn", "pandas")}


def work(request: ExportRequest, events: Events) -> ExportAnswer:
    """Do all of it. The graphs are complete when the step ``answers`` begins."""
    events.step("check")
    for name in _LEFT_OUT.get(request.generic.framework, ()) if request.generic else ():
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    model = GenericModel(request)
    return record(
        model, request, events, framework=lambda: model.framework, libraries=model.libraries, extras=model.extras
    )


if __name__ == "__main__":
    serve(work, ExportRequest)
