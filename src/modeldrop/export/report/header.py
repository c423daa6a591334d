"""The top of the page: what this is, whether it is faithful, and the figures that matter most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.export.report import formatting
from modeldrop.export.report.figures import Figure, is_judged, missed, variant_figures
from modeldrop.export.report.formatting import counted, faster, size, smaller, time
from modeldrop.format.labels import inputs_of

if TYPE_CHECKING:
    from modeldrop.format.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether all variants are faithful: the CSS class and mark of the banner, and what it says."""

    css: str
    mark: str
    headline: str
    detail: str


def name_of(manifest: Manifest) -> str:
    """What the page is called. A folder has no name of its own, only a digest: that stands further down."""
    identity = manifest.source.identity
    if "://" in identity:
        where = identity.rpartition("@sha256:")[0] or identity
    else:
        where = "an earlier version" if identity.startswith("modeldrop:") else "a folder"
    return manifest.source.repository or f"{manifest.architecture} from {where}"


def framework_of(manifest: Manifest) -> str:
    """The original's framework without its version."""
    return manifest.original.framework.split(" ")[0] or "original"


def verdict(manifest: Manifest) -> Verdict:
    """Whether all is faithful, in one sentence."""
    misses = {variant.name: found for variant in manifest.variants if (found := missed(manifest, variant))}
    if misses:
        headline = " and ".join(misses) + (" is not faithful" if len(misses) == 1 else " are not faithful")
        return Verdict("fail", "✗", headline, ". ".join(_miss(name, one) for name in misses for one in misses[name]))
    unjudged = [variant.name for variant in manifest.variants if not is_judged(manifest, variant)]
    if unjudged:
        detail = f"No threshold is set for {', '.join(unjudged)}"
        return Verdict("open", "○", "Not every variant was held to a threshold", detail)
    headline = "All variants faithful" if len(manifest.variants) > 1 else "The variant is faithful"
    inputs = counted(max(variant.fidelity.texts for variant in manifest.variants), *inputs_of(manifest))
    detail = f"Every figure is within its threshold, compared with {manifest.original.framework} on {inputs}"
    return Verdict("pass", "✓", headline, detail)


def _miss(variant: str, figure: Figure) -> str:
    reached = "was not measured" if figure.value is None else f"is {figure.shown}"
    side = "at least" if figure.side == ">=" else "at most"
    return f"{figure.name} of {variant} {reached}; {side} {formatting.threshold(figure.threshold or 0.0)} is required"


def tiles(manifest: Manifest) -> list[tuple[str, str]]:
    """The figures of the smallest variant that are shown large, each with a line about it."""
    smallest = min(manifest.variants, key=manifest.weights_of)
    weights, original = manifest.weights_of(smallest), manifest.original
    one, several = inputs_of(manifest)
    found: list[tuple[str, str]] = []
    if words := smaller(weights, original.weight_bytes):
        found.append((words, f"{size(weights)} instead of {size(original.weight_bytes)}"))
    if smallest.speed and original.speed:
        for now, before, what in (
            (smallest.speed.batch_1_ms, original.speed.batch_1_ms, f"for one {one}"),
            (smallest.speed.batch_32_ms, original.speed.batch_32_ms, f"for 32 {several}"),
        ):
            if words := faster(now, before):
                found.append((words, f"{time(now)} instead of {time(before)} {what}"))
    measured = [figure for figure in variant_figures(manifest, smallest) if figure.value is not None]
    if measured:
        found.append((measured[0].shown, f"{measured[0].name}, against {framework_of(manifest)}"))
    return found
