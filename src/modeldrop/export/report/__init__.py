"""``report.html``: a version for people; one page without scripts or anything to load.

Every value comes from outside and is escaped where it enters the page: what returns ``str`` of HTML takes plain text,
except where an argument is called ``html``.
"""

from __future__ import annotations

from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from modeldrop.export.report.charts import charts
from modeldrop.export.report.formatting import text
from modeldrop.export.report.header import header, name_of, verdict
from modeldrop.export.report.origin import facts, footer, loading, making
from modeldrop.export.report.search import search
from modeldrop.export.report.tables import fidelity, files, golden, graphs, variants, worst

if TYPE_CHECKING:
    from modeldrop.format.manifest import Manifest

_SECTIONS = (
    header, verdict, charts, variants, fidelity, search, worst, loading, facts, making, graphs, golden, files, footer,
)  # fmt: skip


def render(manifest: Manifest) -> bytes:
    """The page for ``manifest``, in UTF-8; the same manifest always gives the same bytes."""
    template = Template(resources.files(__name__).joinpath("page.html").read_text("utf-8"))
    title = f"{name_of(manifest)} ({manifest.architecture}) · modeldrop"
    body = "\n".join(filter(None, (section(manifest) for section in _SECTIONS)))
    return template.substitute(title=text(title), body=body).encode()
