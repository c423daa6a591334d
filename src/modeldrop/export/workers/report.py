"""Write report.html beside a build's manifest.json: Jinja2 is in the exporter's environment, not in the publisher's.

Runs as ``python -m modeldrop.export.workers.report REQUEST``; see ``messages.ReportRequest``.
"""

from __future__ import annotations

from modeldrop.export.messages import ReportRequest
from modeldrop.export.report import render
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.manifest import parse_manifest


def work(request: ReportRequest, _: Events) -> None:
    """Render the page."""
    manifest = parse_manifest((request.folder / "manifest.json").read_bytes())
    (request.folder / "report.html").write_bytes(render(manifest))


if __name__ == "__main__":
    serve(work, ReportRequest)
