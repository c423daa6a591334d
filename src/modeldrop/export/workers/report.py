"""Write report.html beside a build's manifest.json: Jinja2 is in the exporter's environment, not in the publisher's.

Runs as ``python -m modeldrop.export.workers.report REQUEST``. The request: ``folder``, the build.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.export.report import render
from modeldrop.export.workers.protocol import serve
from modeldrop.format.manifest import parse_manifest

if TYPE_CHECKING:
    from modeldrop.export.workers.protocol import Events


def work(request: dict[str, Any], _: Events) -> dict[str, Any]:
    """Render the page; there is nothing to answer."""
    folder = Path(request["folder"])
    (folder / "report.html").write_bytes(render(parse_manifest((folder / "manifest.json").read_bytes())))
    return {}


if __name__ == "__main__":
    serve(work)
