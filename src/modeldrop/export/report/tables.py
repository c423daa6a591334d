"""The rows of the page's tables, where they are more than a list of the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modeldrop.export.report.figures import Figure, figure, framework_of, in_order, variant_figures
from modeldrop.export.report.formatting import faster, number
from modeldrop.format.golden import Golden, GoldenExample
from modeldrop.format.labels import metric_name
from modeldrop.format.manifest import File, Manifest, Speed, Variant

_FIRST = 4
"""Of an answer, so many values are shown."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A latency, and in words how it compares with the original's and with fp32's."""

    milliseconds: float
    compared: list[str]


@dataclass(frozen=True, slots=True)
class KnownInput:
    """A golden input: its text, the first values of the original's answer as people write them, and how many it has."""

    text: str
    first: list[str]
    count: int


@dataclass(frozen=True, slots=True)
class VariantRow:
    """A variant with the bytes of its weights, whether it is faithful, and its latencies where they were measured."""

    variant: Variant
    weights: int
    verdict: str
    latencies: list[Latency]


def variant_rows(manifest: Manifest) -> list[VariantRow]:
    """Every variant: size, latencies, and whether it is faithful."""
    fp32, rows = manifest.variant("fp32"), []
    for variant in manifest.variants:
        others = {framework_of(manifest): manifest.original.speed}
        if fp32 is not None and fp32.name != variant.name:
            others["fp32"] = fp32.speed
        passed = {one.passed for one in variant_figures(manifest, variant)}
        verdict = "not faithful" if False in passed else "faithful" if True in passed else "not judged"
        rows.append(VariantRow(variant, manifest.weights_of(variant), verdict, latencies(variant.speed, others)))
    return rows


def latencies(speed: Speed | None, others: Mapping[str, Speed | None]) -> list[Latency]:
    """The latencies of one input and of 32, compared with those of others; [] where they were not measured."""
    return [
        Latency(value, [_compared(value, _times(other)[index], name) for name, other in others.items() if other])
        for index, value in enumerate(_times(speed))
    ]


def _times(speed: Speed | None) -> list[float]:
    return [] if speed is None else [speed.batch_1_ms, speed.batch_32_ms]


def _compared(milliseconds: float, than: float, name: str) -> str:
    words = faster(milliseconds, than)
    return words and f"{words} {'as' if words == 'as fast' else 'than'} {name}"


def worst_inputs(manifest: Manifest) -> list[tuple[Variant, Figure, str]]:
    """The worst input of each metric, for variants that differ from the original."""
    return [
        (variant, one, found.text)
        for variant in manifest.variants
        for metric, found in sorted(variant.fidelity.worst.items())
        for one in [figure(manifest, metric, found.value, variant.fidelity.thresholds.get(metric))]
        if not one.is_perfect
    ]


def known_inputs(golden: Golden) -> list[KnownInput]:
    """Every golden input; of several outputs, with the main one."""
    answers: list[tuple[str, Sequence[float | str]]] = [
        *((one.text, one.values) for one in golden.cases),
        *((one.text, one.values) for one in golden.chains),
        *((one.text, _main_answer(golden, one)) for one in golden.examples),
    ]
    return [KnownInput(text, [_shown(value) for value in values[:_FIRST]], len(values)) for text, values in answers]


def known_figures(manifest: Manifest) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """What variants reached on the golden inputs where they were built: metrics' names, and by variant their values."""
    reached = manifest.golden.metrics
    names = in_order({metric for metrics in reached.values() for metric in metrics})
    rows = [
        (variant.name, [figure(manifest, name, reached[variant.name].get(name), None).shown for name in names])
        for variant in manifest.variants
        if variant.name in reached
    ]
    return [metric_name(name, manifest.task) for name in names], rows


def _main_answer(golden: Golden, example: GoldenExample) -> Sequence[float | str]:
    outputs = {name: array for step in reversed(example.steps) for name, array in step.outputs.items()}
    main = outputs.get(golden.output) or next(iter(outputs.values()), None)
    return () if main is None else main.texts or main.values


def _shown(value: float | str) -> str:
    return number(value) if isinstance(value, float) else str(value)


def file_rows(manifest: Manifest) -> list[tuple[File, str]]:
    """Every file with the variants that need it."""
    users: dict[str, list[str]] = {file.path: [] for file in manifest.files}
    for variant in manifest.variants:
        for path in variant.files:
            users[path].append(variant.name)
    everyone = len(manifest.variants)
    return [
        (file, "all" if len(names) == everyone else ", ".join(names))
        for file in manifest.files
        for names in [users[file.path]]
    ]
