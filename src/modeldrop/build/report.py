"""``report.html``: a version for people; one page without scripts or anything to load.

Every value comes from outside and is escaped where it enters the page: helpers that return ``str`` of HTML
take plain text, except where an argument is called ``html``.
"""

from __future__ import annotations

import html as _html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template

from modeldrop.format.manifest import Fidelity, Manifest, Speed, Tensor, Variant
from modeldrop.format.recipe import METRICS

_METRIC_NAMES = {
    "cosine_mean": "Mean cosine similarity",
    "cosine_min": "Lowest cosine similarity",
    "correlation": "Correlation of logits",
    "top1": "Same top class",
    "max_abs": "Largest absolute difference",
    "neighbours": "Same nearest neighbours",
    "kendall_tau": "Kendall's tau of the order",
    "top10": "Same ten best",
    "top5": "Same five best classes",
    "greedy_prefix": "Same tokens before the first other one",
    "kl": "Kullback-Leibler divergence",
    "perplexity_gap": "Perplexity above the original's",
}
# What a model is asked, by task, where it is not a text: for one and for several.
_INPUTS = {
    "image-classification": ("picture", "pictures"),
    "zero-shot-image-classification": ("picture", "pictures"),
    "automatic-speech-recognition": ("recording", "recordings"),
}
_SHOWN_VALUES = 4
_SHOWN_LABELS = 50
_NAME_WIDTH = 26


def render(manifest: Manifest) -> bytes:
    """The page for ``manifest``, in UTF-8; the same manifest always gives the same bytes."""
    template = Template(resources.files("modeldrop.build").joinpath("report.html").read_text("utf-8"))
    # A folder has no name of its own, only a digest: that stands further down.
    name = manifest.source.repository or f"{manifest.architecture} from a folder"
    sections = (
        _header(manifest, name),
        _verdict(manifest),
        _charts(manifest),
        _variants(manifest),
        _fidelity(manifest),
        _worst(manifest),
        _loading(manifest),
        _facts(manifest),
        _recipe(manifest),
        _graphs(manifest),
        _golden(manifest),
        _files(manifest),
        _footer(manifest),
    )
    title = f"{name} ({manifest.architecture}) · modeldrop"
    page = template.substitute(title=_text(title), body="\n".join(filter(None, sections)))
    return page.encode()


# --- plain text and numbers ---


def _text(value: str) -> str:
    """Escaped text; control characters and lone surrogates, which HTML does not allow, become visible."""
    shown = "".join(_visible(char) for char in value)
    return _html.escape(shown, quote=True)


def _visible(char: str) -> str:
    code = ord(char)
    if code < 0x20 and char not in "\n\t":
        return chr(0x2400 + code)
    if 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE:
        return "\ufffd"
    return char


def _size(count: float) -> str:
    """Bytes for people: ``90.4 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < (1000 if unit == "bytes" else 999.5):
            return f"{_significant(count)} {unit}" if unit != "bytes" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{_significant(count)} TB"


def _time(milliseconds: float) -> str:
    """A latency for people: ``1.8 ms``, ``123 ms``, ``1.24 s``."""
    if 0 <= milliseconds < 0.95:
        return f"{milliseconds:.2g} ms"
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    return f"{_significant(milliseconds / 1000)} s" if milliseconds < 1e9 else f"{milliseconds:.3g} ms"


def _significant(value: float) -> str:
    """Three digits, more only before the point: ``1.23``, ``23.0``, ``456``."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _number(value: float, digits: int = 4) -> str:
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.{max(1, digits - 3)}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{digits}f}"


def _against(metric: str, value: float, threshold: float | None) -> str:
    """A metric's value with as many digits as it takes to see on which side of its threshold it lies."""
    for digits in range(4, 17):
        shown = _number(value, digits)
        if threshold is None or _passes(metric, float(shown), threshold) == _passes(metric, value, threshold):
            return shown
    return repr(value)


def _threshold(value: float) -> str:
    return f"{value:.10g}"


def _ratio(value: float) -> str:
    return f"{value:.1f}×" if value < 99.95 else f"{value:.0f}×"


def _smaller(size: int, original: int) -> str:
    """How a size compares, in words: ``3.9× smaller``."""
    return _compare(original, size, "smaller", "larger", "same size")


def _faster(time: float, than: float) -> str:
    return _compare(than, time, "faster", "slower", "as fast")


def _compare(before: float, after: float, better: str, worse: str, same: str) -> str:
    if before <= 0 or after <= 0:
        return ""
    ratio = before / after
    if not math.isfinite(ratio) or ratio == 0:
        return ""
    if f"{max(ratio, 1 / ratio):.1f}" == "1.0":
        return same
    return f"{_ratio(ratio)} {better}" if ratio > 1 else f"{_ratio(1 / ratio)} {worse}"


# --- fidelity ---


def _passes(metric: str, value: float | None, threshold: float | None) -> bool | None:
    """Whether a value is on the faithful side; None where nothing is asked or the metric is unknown."""
    side = METRICS.get(metric)
    if threshold is None or side is None:
        return None
    if value is None:
        return False
    return value >= threshold if side == ">=" else value <= threshold


def _metrics(fidelity: Fidelity) -> list[str]:
    """The metrics that were measured or asked for: ours in their order, then what later releases add."""
    present = {*fidelity.metrics, *fidelity.thresholds}
    return [name for name in METRICS if name in present] + sorted(present - set(METRICS))


def _missed(variant: Variant) -> list[str]:
    fidelity = variant.fidelity
    return [
        name
        for name in _metrics(fidelity)
        if _passes(name, fidelity.metrics.get(name), fidelity.thresholds.get(name)) is False
    ]


def _asked(variant: Variant) -> bool:
    return any(name in METRICS for name in variant.fidelity.thresholds)


def _used(metric: str, value: float, threshold: float) -> float | None:
    """Which share of the deviation that the threshold allows was used; None where it allows none."""
    allowed, deviation = (1 - threshold, 1 - value) if METRICS[metric] == ">=" else (threshold, value)
    if allowed <= 0:
        return None
    return min(max(deviation / allowed, 0.0), 99.0)


# --- HTML ---


def _section(title: str, note: str, html: str) -> str:
    lead = f'<p class="note">{_text(note)}</p>' if note else ""
    return f"<section>\n<h2>{_text(title)}</h2>\n{lead}\n{html}\n</section>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """A table; a row's cells are pairs of a CSS class and HTML. Narrow screens show rows as blocks."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{css}" data-label="{_text(column)}"><div>{html}</div></td>'
            for column, (css, html) in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="card scroll whole"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _definitions(pairs: Iterable[tuple[str, str, str]]) -> str:
    """A list of facts: name, CSS classes, value; empty values are left out."""
    items = "\n".join(
        f'<div class="{css}"><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>' for name, css, value in pairs if value
    )
    return f'<div class="card whole"><dl class="facts">\n{items}\n</dl></div>'


def _header(manifest: Manifest, name: str) -> str:
    labels = f", {len(manifest.labels)} labels" if manifest.labels else ""
    licence = f" · {manifest.source.licence}" if manifest.source.licence else ""
    line = f"{manifest.architecture} · {manifest.task}{labels}{licence}"
    commit = f"Source commit {manifest.source.commit[:12]} · " if manifest.source.commit else ""
    actor = f" by {manifest.provenance.actor}" if manifest.provenance.actor else ""
    run = f" in {manifest.provenance.run}" if manifest.provenance.run else ""
    built = f"{commit}built {_moment(manifest.provenance.created)}{actor}{run}"
    return (
        f'<header>\n<p class="brand">modeldrop build report</p>\n<h1 dir="auto">{_text(name)}</h1>\n'
        f'<p class="any">{_text(line)}</p>\n<p class="soft any">{_text(built)}</p>\n</header>'
    )


def _moment(time: str) -> str:
    return f"{time[:10]} at {time[11:16]} UTC"


def _verdict(manifest: Manifest) -> str:
    missed = [variant for variant in manifest.variants if _missed(variant)]
    unasked = [variant.name for variant in manifest.variants if not _asked(variant)]
    framework = manifest.original.framework
    texts = max(variant.fidelity.texts for variant in manifest.variants)
    if missed:
        css, mark = "fail", "✗"
        headline = " and ".join(variant.name for variant in missed) + (
            " is not faithful" if len(missed) == 1 else " are not faithful"
        )
        detail = ". ".join(_miss(variant, name) for variant in missed for name in _missed(variant))
    elif unasked:
        css, mark = "open", "○"
        headline = "Not every variant was held to a threshold"
        detail = f"No threshold was asked of {', '.join(unasked)}"
    else:
        css, mark = "pass", "✓"
        headline = "All variants faithful" if len(manifest.variants) > 1 else "The variant is faithful"
        detail = f"Every figure is within its threshold, compared with {framework} on {texts} {_inputs(manifest)[1]}"
    banner = (
        f'<div class="verdict {css}"><strong>{mark} {_text(headline)}</strong><p class="any">{_text(detail)}.</p></div>'
    )
    return banner + _tiles(manifest)


def _miss(variant: Variant, metric: str) -> str:
    value, threshold = variant.fidelity.metrics.get(metric), variant.fidelity.thresholds[metric]
    reached = "was not measured" if value is None else f"is {_against(metric, value, threshold)}"
    least = "at least" if METRICS[metric] == ">=" else "at most"
    return f"{_metric(metric)} of {variant.name} {reached}, {least} {_threshold(threshold)} was asked"


def _tiles(manifest: Manifest) -> str:
    """The figures of the smallest variant, large."""
    smallest = min(manifest.variants, key=manifest.weights_of)
    size, original = manifest.weights_of(smallest), manifest.original
    framework = _framework(manifest)
    tiles: list[tuple[str, str]] = []
    if words := _smaller(size, original.weight_bytes):
        tiles.append((words, f"{_size(size)} instead of {_size(original.weight_bytes)}"))
    if smallest.speed and original.speed:
        for now, before, what in (
            (smallest.speed.batch_1_ms, original.speed.batch_1_ms, f"for one {_inputs(manifest)[0]}"),
            (smallest.speed.batch_32_ms, original.speed.batch_32_ms, f"for 32 {_inputs(manifest)[1]}"),
        ):
            if words := _faster(now, before):
                tiles.append((words, f"{_time(now)} instead of {_time(before)} {what}"))
    known = [name for name in _metrics(smallest.fidelity) if name in smallest.fidelity.metrics]
    if known:
        value = _against(known[0], smallest.fidelity.metrics[known[0]], smallest.fidelity.thresholds.get(known[0]))
        tiles.append((value, f"{_metric(known[0])}, against {framework}"))
    items = "".join(
        f'<div class="card tile"><b>{_text(big)}</b><span>{_text(small)}</span></div>' for big, small in tiles
    )
    return f'\n<div class="tiles" aria-label="{_text(smallest.name)}">{items}</div>\n' + (
        f'<p class="note">Figures of {_text(smallest.name)}, the smallest variant.</p>'
        if len(manifest.variants) > 1 and tiles
        else ""
    )


def _inputs(manifest: Manifest) -> tuple[str, str]:
    """What this model is asked: one of them, and several."""
    return _INPUTS.get(manifest.task, ("text", "texts"))


def _metric(name: str) -> str:
    return _METRIC_NAMES.get(name, name)


def _framework(manifest: Manifest) -> str:
    """The original's framework without its version."""
    return manifest.original.framework.split(" ")[0] or "original"


# --- charts ---


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    value: float
    shown: str
    css: str = "variant"


def _charts(manifest: Manifest) -> str:
    weights = [_Bar(variant.name, size, _size(size)) for variant, size in _sizes(manifest)]
    original = manifest.original.weight_bytes
    weights.insert(0, _Bar(_framework(manifest), original, _size(original), "original"))
    costs = [("Size of the weights", "less is better", weights)]
    one, several = _inputs(manifest)
    for title, name in ((f"Latency of one {one}", "batch_1_ms"), (f"Latency of 32 {several}", "batch_32_ms")):
        if bars := _latencies(manifest, name):
            costs.append((title, "median; less is better", bars))
    higher = [
        metric
        for metric, side in METRICS.items()
        if side == ">=" and any(metric in variant.fidelity.metrics for variant in manifest.variants)
    ][:2]
    css = {1: "full", 2: "half"}.get(len(costs), "")
    cards = [_chart(title, note, bars, {}, css) for title, note, bars in costs]
    cards += [_fidelity_chart(manifest, metric, "half" if len(higher) == 2 else "full") for metric in higher]
    note = f"Measured on {manifest.machine}." if manifest.machine else ""
    return _section("At a glance", note, f'<div class="charts">{"".join(cards)}</div>')


def _sizes(manifest: Manifest) -> list[tuple[Variant, int]]:
    return [(variant, manifest.weights_of(variant)) for variant in manifest.variants]


def _fidelity_chart(manifest: Manifest, metric: str, css: str) -> str:
    bars = [_Bar(_framework(manifest), 1.0, "1", "original")]
    limits: dict[str, float] = {}
    for variant in manifest.variants:
        value, limit = variant.fidelity.metrics.get(metric), variant.fidelity.thresholds.get(metric)
        if value is None:
            continue
        missed = _passes(metric, value, limit) is False
        bars.append(_Bar(variant.name, value, _against(metric, value, limit), "missed" if missed else "variant"))
        if limit is not None:
            limits[variant.name] = limit
    return _chart(_metric(metric), "1 is the original; the mark is the threshold", bars, limits, css)


def _latencies(manifest: Manifest, name: str) -> list[_Bar]:
    rows: list[tuple[str, Speed | None, str]] = [(_framework(manifest), manifest.original.speed, "original")]
    rows += [(variant.name, variant.speed, "variant") for variant in manifest.variants]
    values = [(label, getattr(speed, name), css) for label, speed, css in rows if speed is not None]
    return [_Bar(label, value, _time(value), css) for label, value, css in values]


def _chart(title: str, note: str, bars: Sequence[_Bar], limits: Mapping[str, float], css: str) -> str:
    """Bars from zero, each under its label and value; widths in percent, so that text keeps its size."""
    most = max((bar.value for bar in bars), default=0.0)
    row = 40
    parts = []
    for index, bar in enumerate(bars):
        top = index * row
        share = bar.value / most if most > 0 else 0.0
        width = f"{min(max(share, 0.0), 1.0) * 100:.2f}%"
        limit = limits.get(bar.label) if bar.css != "original" else None
        asked = "" if limit is None else f'<tspan class="soft" dx="8">≥ {_threshold(limit)}</tspan>'
        parts.append(
            f'<text x="0" y="{top + 13}">{_text(_cut(bar.label))}{asked}</text>'
            f'<text class="value" x="100%" y="{top + 13}">{_text(bar.shown)}</text>'
            f'<rect class="track" x="0" y="{top + 20}" width="100%" height="10" rx="3"/>'
            f'<rect class="{bar.css}" x="0" y="{top + 20}" width="{width}" height="10" rx="3"/>'
        )
        if limit is not None and 0 <= limit <= most:
            spot = f"{limit / most * 100:.2f}%"
            parts.append(f'<line class="limit" x1="{spot}" x2="{spot}" y1="{top + 17}" y2="{top + 33}"/>')
    spoken = f"{title}: " + ", ".join(f"{bar.label} {bar.shown}" for bar in bars)
    height = len(bars) * row - 6
    return (
        f'<div class="card {css}"><h3>{_text(title)}<small>{_text(note)}</small></h3>'
        f'<svg role="img" aria-label="{_text(spoken)}" height="{height}">{"".join(parts)}</svg></div>'
    )


def _cut(text: str) -> str:
    return text if len(text) <= _NAME_WIDTH else text[: _NAME_WIDTH - 1] + "…"


# --- tables ---


def _variants(manifest: Manifest) -> str:
    original = manifest.original
    one, several = _inputs(manifest)
    columns = ("Variant", "Weights", f"One {one}", f"32 {several}", "Opset", "onnxruntime")
    none = ("soft", "–")
    rows = [
        [
            ("name", _text(original.framework)),
            ("n", _text(_size(original.weight_bytes))),
            *([("n", _text(_time(value))) for value in _times(original.speed)] or [none, none]),
            none,
            none,
        ]
    ]
    fp32 = manifest.variant("fp32")
    for variant in manifest.variants:
        size = manifest.weights_of(variant)
        rows.append(
            [
                ("name", f"{_text(variant.name)}<small>{_text(_verdict_of(variant))}</small>"),
                ("n", f"{_text(_size(size))}<small>{_text(_smaller(size, original.weight_bytes))}</small>"),
                *(_speed_cells(manifest, variant, fp32) or [none, none]),
                ("n", f"{variant.opset}<small>IR {variant.ir_version}</small>"),
                ("n", f"{_text(variant.min_onnxruntime)}<small>or newer</small>"),
            ]
        )
    return _section("Variants", "The same weights, each ready for onnxruntime.", _table(columns, rows))


def _verdict_of(variant: Variant) -> str:
    if _missed(variant):
        return "not faithful"
    return "faithful" if _asked(variant) else "not judged"


def _times(speed: Speed | None) -> list[float]:
    return [] if speed is None else [speed.batch_1_ms, speed.batch_32_ms]


def _speed_cells(manifest: Manifest, variant: Variant, fp32: Variant | None) -> list[tuple[str, str]]:
    before = _times(manifest.original.speed)
    plain = _times(fp32.speed) if fp32 is not None and fp32.name != variant.name else []
    cells = []
    for index, value in enumerate(_times(variant.speed)):
        notes = []
        if before and (words := _faster(value, before[index])):
            notes.append(f"{words} {_than(words)} {_framework(manifest)}")
        if plain and (words := _faster(value, plain[index])):
            notes.append(f"{words} {_than(words)} fp32")
        cells.append(("n", _text(_time(value)) + "".join(f"<small>{_text(note)}</small>" for note in notes)))
    return cells


def _than(words: str) -> str:
    return "as" if words == "as fast" else "than"


def _fidelity(manifest: Manifest) -> str:
    columns = ("Variant", "Figure", "Measured", "Asked", "Deviation used", "Result")
    rows = []
    for variant in manifest.variants:
        fidelity = variant.fidelity
        for metric in _metrics(fidelity):
            value, threshold = fidelity.metrics.get(metric), fidelity.thresholds.get(metric)
            passed = _passes(metric, value, threshold)
            side = {">=": "≥", "<=": "≤"}.get(METRICS.get(metric, ""), "")
            rows.append(
                [
                    ("name", _text(variant.name)),
                    ("any", _text(_metric(metric))),
                    ("n", "–" if value is None else _text(_against(metric, value, threshold))),
                    ("n soft", "–" if threshold is None else _text(f"{side} {_threshold(threshold)}")),
                    ("n", _meter(metric, value, threshold, passed=passed)),
                    (
                        {True: "mark yes", False: "mark no", None: "soft"}[passed],
                        {True: "✓ pass", False: "✗ missed", None: "not judged"}[passed],
                    ),
                ]
            )
    if not rows:
        return ""
    note = (
        f"How close each variant stays to {manifest.original.framework}, and how much of the deviation that "
        "the recipe allows it has used."
    )
    return _section("Fidelity", note, _table(columns, rows))


def _meter(metric: str, value: float | None, threshold: float | None, *, passed: bool | None) -> str:
    if passed is None or value is None or threshold is None:
        return '<span class="soft">–</span>'
    used = _used(metric, value, threshold)
    if used is None:
        return "none" if passed else "none is allowed"
    css = "over" if passed is False else ""
    percent = "under 1 %" if 0 < used < 0.01 else f"{used * 100:.0f} %"
    return f'<span class="meter"><i class="{css}" style="width:{min(used, 1) * 100:.1f}%"></i></span>{percent}'


def _worst(manifest: Manifest) -> str:
    rows = [
        [
            ("name", _text(variant.name)),
            ("", _text(_metric(metric))),
            ("n", _text(_against(metric, worst.value, variant.fidelity.thresholds.get(metric)))),
            ("any", f'<span dir="auto">{_text(worst.text)}</span>'),
        ]
        for variant in manifest.variants
        for metric, worst in sorted(variant.fidelity.worst.items())
    ]
    if not rows:
        return ""
    one, several = _inputs(manifest)
    note = f"The {several} on which a variant strayed furthest from the original."
    return _section("Worst inputs", note, _table(("Variant", "Figure", "Value", one.capitalize()), rows))


def _loading(manifest: Manifest) -> str:
    smallest = min(manifest.variants, key=manifest.weights_of).name
    command = f"modeldrop fetch REGISTRY/MODEL --variant {smallest}"
    python = (
        "import modeldrop\nimport onnxruntime\n\n"
        f"snapshot = modeldrop.fetch({_quoted('REGISTRY/MODEL')}, variant={_quoted(smallest)})\n"
        "session = onnxruntime.InferenceSession(snapshot.model_file)"
    )
    graphs = "; ".join(f"{variant.name}: {', '.join(variant.graphs.values())}" for variant in manifest.variants)
    note = f"A snapshot is a plain folder that any runtime opens. The graphs: {graphs}."
    html = f'<div class="card"><pre dir="ltr">{_text(command)}</pre><pre dir="ltr">{_text(python)}</pre></div>'
    return _section("How to load it", note, html)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _facts(manifest: Manifest) -> str:
    source, provenance = manifest.source, manifest.provenance
    facts = (
        ("Task", "", manifest.task),
        ("Architecture", "", manifest.architecture),
        ("Licence", "", source.licence),
        ("Terms", "", "to be accepted on the Hub before it may be used (gated)" if source.gated else ""),
        ("Longest text", "", f"{manifest.max_length} tokens" if manifest.max_length else ""),
        ("Source", "", source.repository),
        ("Source commit", "mono", source.commit),
        ("Source identity", "wide mono", source.identity),
        ("Labels", "wide", _labels(manifest.labels)),
        ("Built", "", _moment(provenance.created)),
        ("By", "", provenance.actor),
        ("Run", "wide", provenance.run),
        ("Built from", "", provenance.repository),
        ("At commit", "mono", provenance.commit),
        ("Machine", "wide", manifest.machine),
    )
    return _section("Where it comes from", "", _definitions(facts))


def _labels(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN_LABELS} more" if len(labels) > _SHOWN_LABELS else ""
    return ", ".join(labels[:_SHOWN_LABELS]) + more


def _recipe(manifest: Manifest) -> str:
    plain = json.dumps(manifest.recipe.to_json(), indent=2, sort_keys=True, ensure_ascii=False)
    recipe = f'<div class="card whole"><pre class="bare" dir="ltr">{_text(plain)}</pre></div>'
    tools = _definitions((name, "", version) for name, version in sorted(manifest.toolchain.items()))
    return (
        '<div class="pair">\n'
        + _section("Recipe", "What was asked for; the rest had its default.", recipe)
        + _section("Toolchain", "What it was built with.", tools)
        + "\n</div>"
    )


def _graphs(manifest: Manifest) -> str:
    groups: dict[tuple[tuple[Tensor, ...], tuple[Tensor, ...]], list[str]] = {}
    for variant in manifest.variants:
        several = f", {variant.role}" if variant.others else ""
        groups.setdefault((variant.inputs, variant.outputs), []).append(f"{variant.name}{several}")
        for graph in variant.others:
            groups.setdefault((graph.inputs, graph.outputs), []).append(f"{variant.name}, {graph.role}")
    rows = [
        [
            ("any", _text("; ".join(names))),
            ("soft", kind),
            ("any mono", _text(tensor.name)),
            ("any mono", _text(tensor.dtype)),
            ("any mono", _text(f"[{', '.join(tensor.shape)}]")),
        ]
        for (inputs, outputs), names in groups.items()
        for kind, tensors in (("input", inputs), ("output", outputs))
        for tensor in tensors
    ]
    if not rows:
        return ""
    note = "What goes into the graphs and what comes out."
    return _section("Inputs and outputs", note, _table(("Variants", "Kind", "Name", "Type", "Shape"), rows))


def _golden(manifest: Manifest) -> str:
    known = [(case.text, case.values) for case in manifest.golden.cases]
    known += [(chain.text, chain.values) for chain in manifest.golden.chains]
    rows = [
        [
            ("any", f'<span dir="auto">{_text(text)}</span>'),
            ("any mono", _text(_first(values))),
            ("n soft", str(len(values))),
        ]
        for text, values in known
    ]
    if not rows:
        return ""
    note = f"Known inputs and the original's {manifest.golden.output}, to test a variant where it serves."
    return _section("Golden cases", note, _table(("Input", "First values", "Values"), rows))


def _first(values: Sequence[float]) -> str:
    more = ", …" if len(values) > _SHOWN_VALUES else ""
    return ", ".join(_number(value) for value in values[:_SHOWN_VALUES]) + more


def _files(manifest: Manifest) -> str:
    users: dict[str, list[str]] = {file.path: [] for file in manifest.files}
    for variant in manifest.variants:
        for path in variant.files:
            users[path].append(variant.name)
    everyone = len(manifest.variants)
    rows = [
        [
            ("any mono", _text(file.path)),
            ("n", _text(_size(file.size))),
            ("soft", _text("all" if len(names) == everyone else ", ".join(names) or "–")),
            ("digest", _text(file.sha256)),
        ]
        for file in manifest.files
        for names in [users[file.path]]
    ]
    total = sum(file.size for file in manifest.files)
    count = f"{len(manifest.files)} files" if len(manifest.files) != 1 else "1 file"
    return _section("Files", f"{count}, {_size(total)}.", _table(("Path", "Size", "Variants", "SHA-256"), rows))


def _footer(manifest: Manifest) -> str:
    version = manifest.toolchain.get("modeldrop", "")
    by = f"modeldrop {version}" if version else "modeldrop"
    return (
        f"<footer><p>Made by {_text(by)} from the version's manifest.json, exporter epoch {manifest.epoch}. "
        f'Build key: <span class="digest">{_text(manifest.build_key)}</span></p></footer>'
    )
