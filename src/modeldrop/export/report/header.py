"""The top of the page: what this is, whether it is faithful, and the figures that matter most."""

from __future__ import annotations

from modeldrop.export.report.figures import Figure, figures, is_asked, missed
from modeldrop.export.report.formatting import counted, faster, limit, size, smaller, text, time
from modeldrop.format.labels import inputs_of
from modeldrop.format.manifest import Manifest


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


def moment(time_of_day: str) -> str:
    """A time as people write it."""
    return f"{time_of_day[:10]} at {time_of_day[11:16]} UTC"


def header(manifest: Manifest) -> str:
    """Name, kind, licence, and who built it when."""
    labels = f", {counted(len(manifest.labels), 'label', 'labels')}" if manifest.labels else ""
    licence = f" · {manifest.source.licence}" if manifest.source.licence else ""
    gated = " · gated" if manifest.source.gated else ""
    line = f"{manifest.architecture} · {manifest.task}{labels}{licence}{gated}"
    commit = f"Source commit {manifest.source.commit[:12]} · " if manifest.source.commit else ""
    actor = f" by {manifest.provenance.actor}" if manifest.provenance.actor else ""
    run = f" in {manifest.provenance.run}" if manifest.provenance.run else ""
    built = f"{commit}built {moment(manifest.provenance.created)}{actor}{run}"
    return (
        f'<header>\n<p class="brand">modeldrop build report</p>\n<h1 dir="auto">{text(name_of(manifest))}</h1>\n'
        f'<p class="any">{text(line)}</p>\n<p class="soft any">{text(built)}</p>\n</header>'
    )


def verdict(manifest: Manifest) -> str:
    """Whether all is faithful, in one sentence, and the large figures."""
    misses = {variant.name: found for variant in manifest.variants if (found := missed(manifest, variant))}
    unasked = [variant.name for variant in manifest.variants if not is_asked(manifest, variant)]
    count = max(variant.fidelity.texts for variant in manifest.variants)
    if misses:
        css, mark = "fail", "✗"
        headline = " and ".join(misses) + (" is not faithful" if len(misses) == 1 else " are not faithful")
        detail = ". ".join(_miss(name, one) for name, found in misses.items() for one in found)
    elif unasked:
        css, mark = "open", "○"
        headline = "Not every variant was held to a threshold"
        detail = f"No threshold was asked of {', '.join(unasked)}"
    else:
        css, mark = "pass", "✓"
        headline = "All variants faithful" if len(manifest.variants) > 1 else "The variant is faithful"
        inputs = counted(count, *inputs_of(manifest))
        detail = f"Every figure is within its threshold, compared with {manifest.original.framework} on {inputs}"
    banner = (
        f'<div class="verdict {css}"><strong>{mark} {text(headline)}</strong><p class="any">{text(detail)}.</p></div>'
    )
    return banner + _tiles(manifest)


def _miss(variant: str, one: Figure) -> str:
    reached = "was not measured" if one.value is None else f"is {one.shown}"
    least = "at least" if one.side == ">=" else "at most"
    return f"{one.name} of {variant} {reached}, {least} {limit(one.threshold or 0.0)} was asked"


def _tiles(manifest: Manifest) -> str:
    """The figures of the smallest variant, large."""
    smallest = min(manifest.variants, key=manifest.weights_of)
    weights, original = manifest.weights_of(smallest), manifest.original
    one, several = inputs_of(manifest)
    tiles: list[tuple[str, str]] = []
    if words := smaller(weights, original.weight_bytes):
        tiles.append((words, f"{size(weights)} instead of {size(original.weight_bytes)}"))
    if smallest.speed and original.speed:
        for now, before, what in (
            (smallest.speed.batch_1_ms, original.speed.batch_1_ms, f"for one {one}"),
            (smallest.speed.batch_32_ms, original.speed.batch_32_ms, f"for 32 {several}"),
        ):
            if words := faster(now, before):
                tiles.append((words, f"{time(now)} instead of {time(before)} {what}"))
    known = [one for one in figures(manifest, smallest) if one.value is not None]
    if known:
        tiles.append((known[0].shown, f"{known[0].name}, against {framework_of(manifest)}"))
    items = "".join(
        f'<div class="card tile"><b>{text(big)}</b><span>{text(little)}</span></div>' for big, little in tiles
    )
    return f'\n<div class="tiles" aria-label="{text(smallest.name)}">{items}</div>\n' + (
        f'<p class="note">Figures of {text(smallest.name)}, the smallest variant.</p>'
        if len(manifest.variants) > 1 and tiles
        else ""
    )
