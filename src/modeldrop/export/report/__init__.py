"""``report.html``: a version for people, as one page without scripts or anything to load.

The HTML is in ``templates``; the modules here say what it shows, as plain values. Every value comes from outside, and
Jinja2 escapes it where it enters the page: no value is marked as safe.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from modeldrop.export.report import formatting
from modeldrop.export.report.charts import charts
from modeldrop.export.report.figures import framework_of, variant_figures
from modeldrop.export.report.search import searches
from modeldrop.export.report.tables import file_rows, known_figures, known_inputs, latencies, variant_rows, worst_inputs
from modeldrop.format.labels import inputs_of
from modeldrop.format.manifest import Manifest
from modeldrop.format.signature import signatures
from modeldrop.util.text import latency_text

if TYPE_CHECKING:
    from jinja2 import Environment


def render(manifest: Manifest) -> bytes:
    """The page for ``manifest``, in UTF-8; the same manifest always gives the same bytes."""
    page: str = environment().get_template("page.html").render(context(manifest))
    return page.encode()


def context(manifest: Manifest) -> dict[str, Any]:
    """What the templates show of a version: the report's page, and the pages of ``modeldrop.site`` that share them."""
    one, several = inputs_of(manifest)
    return {
        "manifest": manifest,
        "source": manifest.source,
        "provenance": manifest.provenance,
        "original": manifest.original,
        "embedding": manifest.embedding,
        "recipe": manifest.recipe,
        "several_variants": len(manifest.variants) > 1,
        "dash": "–",
        "name": _name_of(manifest),
        "framework": framework_of(manifest),
        "input": one,
        "several_inputs": several,
        "smallest": min(manifest.variants, key=manifest.weights_of),
        "charts": charts(manifest),
        "original_latencies": latencies(manifest.original.speed, {}),
        "variants": variant_rows(manifest),
        "figures": [
            (variant, figure) for variant in manifest.variants for figure in variant_figures(manifest, variant)
        ],
        "searches": searches(manifest),
        "worst": worst_inputs(manifest),
        "toolchain": [(name, "", version) for name, version in sorted(manifest.toolchain.items())],
        "environment": [f"{name}=={version}" for name, version in sorted(manifest.environment.items())],
        "graphs": signatures(manifest.variants),
        "known": known_inputs(manifest.golden),
        "known_figures": known_figures(manifest),
        "files": file_rows(manifest),
    }


def _name_of(manifest: Manifest) -> str:
    """What the page is called. A folder has no name of its own, only a digest: that stands further down."""
    identity = manifest.source.identity
    if "://" in identity:
        where = identity.rpartition("@sha256:")[0] or identity
    else:
        where = "an earlier version" if identity.startswith("modeldrop:") else "a folder"
    return manifest.source.repository or f"{manifest.architecture} from {where}"


@functools.cache
def environment(*packages: str) -> Environment:
    """Jinja2 with the report's templates, and those of further packages."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # most commands render no report

    from modeldrop.export.report.cells import Cells
    from modeldrop.export.report.escaping import EscapingGenerator, escaped

    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (__name__, *packages)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Cells],
        auto_reload=False,  # the templates are the package's
    )
    made.code_generator_class = EscapingGenerator
    made.filters |= {
        "as_json": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
        "counted": formatting.counted,
        "faster": formatting.faster,
        "moment": formatting.moment,
        "number": formatting.number,
        "quoted": lambda value: json.dumps(value, ensure_ascii=False),
        "size": formatting.size,
        "smaller": formatting.smaller,
        "threshold": formatting.threshold,
        "time": latency_text,
    }
    return made
