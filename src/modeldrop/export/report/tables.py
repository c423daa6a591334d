"""The variants and what was measured of them, in tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modeldrop.export.report.blocks import section, small, table
from modeldrop.export.report.figures import Figure, figure, figures, is_asked, missed
from modeldrop.export.report.formatting import counted, faster, number, size, smaller, text, time
from modeldrop.export.report.header import framework_of
from modeldrop.format.labels import inputs_of
from modeldrop.format.manifest import Graph, Manifest, Speed, Tensor, Variant

_SHOWN_VALUES = 4
# The layer's number in past_key_values.7.decoder.key.
_LAYER = re.compile(r"\.([0-9]+)\.")
_NONE = ("soft", "–")


def variants(manifest: Manifest) -> str:
    """Every variant: size, latency, and what it takes to run it."""
    original = manifest.original
    one, several = inputs_of(manifest)
    columns = ("Variant", "Weights", f"One {one}", f"32 {several}", "Runs with", "Opset")
    rows = [
        [
            ("name", text(original.framework)),
            ("n", text(size(original.weight_bytes))),
            *([("n", text(time(value))) for value in _times(original.speed)] or [_NONE, _NONE]),
            _NONE,
            _NONE,
        ]
    ]
    fp32 = manifest.variant("fp32")
    for variant in manifest.variants:
        count = manifest.weights_of(variant)
        rows.append(
            [
                ("name", f"{text(variant.name)}{small(_verdict_of(manifest, variant))}"),
                ("n", f"{text(size(count))}{small(smaller(count, original.weight_bytes))}"),
                *(_speed_cells(manifest, variant, fp32) or [_NONE, _NONE]),
                *_needs(manifest, variant),
            ]
        )
    return section("Variants", "The same weights, each ready for its runtime.", table(columns, rows))


def is_openvino(variant: Variant) -> bool:
    """Whether OpenVINO runs it, and not onnxruntime."""
    return variant.model.endswith(".xml")


def _needs(manifest: Manifest, variant: Variant) -> list[tuple[str, str]]:
    if is_openvino(variant):
        release = manifest.toolchain.get("openvino") or manifest.environment.get("openvino", "")
        return [("", f"OpenVINO{small(f'made with {release}' if release else '')}"), _NONE]
    return [
        ("", f"onnxruntime{small(f'{variant.min_onnxruntime} or newer')}"),
        ("n", f"{variant.opset}{small(f'IR {variant.ir_version}')}"),
    ]


def _verdict_of(manifest: Manifest, variant: Variant) -> str:
    if missed(manifest, variant):
        return "not faithful"
    return "faithful" if is_asked(manifest, variant) else "not judged"


def _times(speed: Speed | None) -> list[float]:
    return [] if speed is None else [speed.batch_1_ms, speed.batch_32_ms]


def _speed_cells(manifest: Manifest, variant: Variant, fp32: Variant | None) -> list[tuple[str, str]]:
    before = _times(manifest.original.speed)
    plain = _times(fp32.speed) if fp32 is not None and fp32.name != variant.name else []
    cells = []
    for index, value in enumerate(_times(variant.speed)):
        notes = []
        if before and (words := faster(value, before[index])):
            notes.append(f"{words} {_than(words)} {framework_of(manifest)}")
        if plain and (words := faster(value, plain[index])):
            notes.append(f"{words} {_than(words)} fp32")
        cells.append(("n", text(time(value)) + small(*notes)))
    return cells


def _than(words: str) -> str:
    return "as" if words == "as fast" else "than"


def fidelity(manifest: Manifest) -> str:
    """Every figure beside what was asked."""
    columns = ("Variant", "Figure", "Measured", "Asked", "Deviation used", "Result")
    rows = []
    for variant in manifest.variants:
        for one in figures(manifest, variant):
            own = manifest.original.metrics.get(one.metric)
            original = "" if own is None else f"the original has {number(own)}"
            rows.append(
                [
                    ("name", text(variant.name)),
                    ("any", text(one.name)),
                    ("n", text(one.shown) + small(original)),
                    ("n soft", text(one.asked or "–")),
                    ("n", _meter(one)),
                    (
                        {True: "mark yes", False: "mark no", None: "soft"}[one.passed],
                        {True: "✓ pass", False: "✗ missed", None: "not judged"}[one.passed],
                    ),
                ]
            )
    if not rows:
        return ""
    note = (
        f"How close each variant stays to {manifest.original.framework}, and how much of the deviation that "
        "the recipe allows it has used."
    )
    return section("Fidelity", note, table(columns, rows))


def _meter(one: Figure) -> str:
    share = one.used
    if share is None:
        return '<span class="soft">–</span>'
    css = "over" if one.passed is False else ""
    percent = "under 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"
    return f'<span class="meter"><i class="{css}" style="width:{min(share, 1) * 100:.1f}%"></i></span>{percent}'


def worst(manifest: Manifest) -> str:
    """The inputs on which variants strayed; where all answer as the original, there is none."""
    rows = [
        [
            ("name", text(variant.name)),
            ("", text(one.name)),
            ("n", text(one.shown)),
            ("any", f'<span dir="auto">{text(found.text)}</span>'),
        ]
        for variant in manifest.variants
        for metric, found in sorted(variant.fidelity.worst.items())
        for one in [figure(manifest, metric, found.value, variant.fidelity.thresholds.get(metric))]
        if not one.is_perfect
    ]
    if not rows:
        return ""
    one, several = inputs_of(manifest)
    note = f"The {several} on which a variant strayed furthest from the original."
    return section("Worst inputs", note, table(("Variant", "Figure", "Value", one.capitalize()), rows))


def graphs(manifest: Manifest) -> str:
    """What goes into every graph and what comes out; those with the same share a table."""
    groups: dict[tuple[tuple[Tensor, ...], tuple[Tensor, ...]], dict[str, list[str]]] = {}
    for variant in manifest.variants:
        own = Graph(variant.role, variant.model, variant.inputs, variant.outputs)
        for graph in (own, *variant.others):
            groups.setdefault((graph.inputs, graph.outputs), {}).setdefault(graph.role, []).append(variant.name)
    parts = []
    for (inputs, outputs), users in groups.items():
        if not inputs and not outputs:
            continue
        called = "; ".join(f"{role} of {', '.join(names)}" for role, names in users.items())
        rows = [
            [
                ("soft", kind),
                ("any mono", text(name)),
                ("n mono", text(tensor.dtype)),
                ("any mono", text(f"[{', '.join(tensor.shape)}]")),
            ]
            for kind, tensors in (("input", inputs), ("output", outputs))
            for name, tensor in _by_layer(tensors)
        ]
        parts.append(f"<h3>{text(called)}</h3>\n{table(('Kind', 'Name', 'Type', 'Shape'), rows)}")
    note = "What goes into the graphs and what comes out."
    return section("Inputs and outputs", note, "\n".join(parts)) if parts else ""


def _by_layer(tensors: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    """Tensors with their names; those of equal layers, of which large models have dozens, as one."""
    layers: dict[tuple[str, str, tuple[str, ...]], list[Tensor]] = {}
    for tensor in tensors:
        layers.setdefault((_LAYER.sub("..", tensor.name, 1), tensor.dtype, tensor.shape), []).append(tensor)
    return [(_range([tensor.name for tensor in alike]), alike[0]) for alike in layers.values()]


def _range(names: Sequence[str]) -> str:
    """``past.0…5.key`` for names that differ in their layer's number alone."""
    last = _LAYER.search(names[-1])
    if len(names) == 1 or last is None:
        return names[0]
    return _LAYER.sub(lambda first: f".{first[1]}…{last[1]}.", names[0], 1)


def golden(manifest: Manifest) -> str:
    """The known answers."""
    known = [(case.text, case.values) for case in manifest.golden.cases]
    known += [(chain.text, chain.values) for chain in manifest.golden.chains]
    rows = [
        [
            ("any", f'<span dir="auto">{text(shown)}</span>'),
            ("any mono", text(_first(values))),
            ("n soft", str(len(values))),
        ]
        for shown, values in known
    ]
    if not rows:
        return ""
    note = f"Known inputs and the original's {manifest.golden.output}, to test a variant where it serves."
    return section("Golden cases", note, table(("Input", "First values", "Values"), rows))


def _first(values: Sequence[float]) -> str:
    more = ", …" if len(values) > _SHOWN_VALUES else ""
    return ", ".join(number(value) for value in values[:_SHOWN_VALUES]) + more


def files(manifest: Manifest) -> str:
    """Every file with its digest."""
    users: dict[str, list[str]] = {file.path: [] for file in manifest.files}
    for variant in manifest.variants:
        for path in variant.files:
            users[path].append(variant.name)
    everyone = len(manifest.variants)
    rows = [
        [
            ("any mono", text(file.path)),
            ("n", text(size(file.size))),
            ("soft", text("all" if len(names) == everyone else ", ".join(names) or "–")),
            ("digest", text(file.sha256)),
        ]
        for file in manifest.files
        for names in [users[file.path]]
    ]
    total = sum(file.size for file in manifest.files)
    count = counted(len(manifest.files), "file", "files")
    return section("Files", f"{count}, {size(total)}.", table(("Path", "Size", "Variants", "SHA-256"), rows))
