"""What a build would change: its figures beside those of the version that a channel names. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modeldrop.export.messages import ChangedAnswer, CompareAnswer, TimedVariant
from modeldrop.format.manifest import Manifest, Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFigures:
    """What is known of a variant in numbers.

    Attributes:
        size: bytes of its weights.
        one_ms: milliseconds of one input, None where that is not known.
        batch_ms: those of 32.
        fidelity: by metric, own ones too: how it compares with its own original.
    """

    size: int
    one_ms: float | None
    batch_ms: float | None
    fidelity: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class VariantChange:
    """A variant of two versions; None on the side that has none of that name."""

    name: str
    before: VariantFigures | None
    after: VariantFigures | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildComparison:
    """A build beside the version that a channel names.

    Attributes:
        channel: the channel.
        version: what it names, such as ``v7``; "" where it does not exist.
        before: the digest of that version's manifest, or "".
        after: the digest of the build's.
        variants: those of the build, then those that it no longer has.
        measured: whether the latencies of both were measured here, in turn; else each was when it was built.
        inputs: how many inputs both were asked.
        answers: by variant the answers that differ most.
        own_inputs: whether the inputs are the user's, not built-in ones.
        problems: what could not be compared, and why.
    """

    channel: str
    version: str
    before: str
    after: str
    variants: tuple[VariantChange, ...]
    measured: bool = False
    inputs: int = 0
    answers: tuple[ChangedAnswer, ...] = ()
    own_inputs: bool = False
    problems: tuple[str, ...] = ()


def variant_changes(
    before: Manifest | None, after: Manifest, measured: CompareAnswer | None = None
) -> tuple[VariantChange, ...]:
    """Every variant of two versions.

    Args:
        before: the version that is there, if one is.
        after: the build.
        measured: their latencies, measured in turn; None for those that the manifests have.
    """
    sides: list[dict[str, VariantFigures]] = []
    for manifest, latencies in (
        (before, measured.before if measured else None),
        (after, measured.after if measured else None),
    ):
        variants = manifest.variants if manifest else ()
        sides.append({one.name: _figures(manifest, one, latencies) for one in variants if manifest})
    names = dict.fromkeys((*sides[1], *sides[0]))
    return tuple(VariantChange(name, sides[0].get(name), sides[1].get(name)) for name in names)


def _figures(manifest: Manifest, variant: Variant, latencies: Mapping[str, TimedVariant] | None) -> VariantFigures:
    if latencies is not None:
        timed = latencies.get(variant.name)
        one, batch = (timed.one, timed.batch) if timed else (None, None)
    else:
        speed = variant.speed
        one, batch = (speed.batch_1_ms, speed.batch_32_ms) if speed else (None, None)
    return VariantFigures(
        size=manifest.weights_of(variant), one_ms=one, batch_ms=batch, fidelity=dict(variant.fidelity.metrics)
    )


def metrics_json(changes: tuple[VariantChange, ...], comparison: BuildComparison | None) -> dict[str, Any]:
    """The figures for programs: those of each variant, and by how much they are above those of the version before.

    Latencies are in milliseconds, sizes in bytes; what is not known is null or absent.
    """
    variants = {}
    for change in changes:
        if change.after is None:
            continue
        document = _plain(change.after)
        if change.before is not None:
            before = _plain(change.before)
            document |= {"before": before, "deltas": _deltas(before, document)}
        variants[change.name] = document
    return {
        "compared_with": comparison.version if comparison and comparison.version else None,
        "channel": comparison.channel if comparison else None,
        "measured_together": bool(comparison and comparison.measured),
        "variants": variants,
        "removed": [change.name for change in changes if change.after is None],
    }


def _plain(figures: VariantFigures) -> dict[str, Any]:
    return {
        "size": figures.size,
        "latency_ms": {"batch_1": figures.one_ms, "batch_32": figures.batch_ms},
        "fidelity": dict(figures.fidelity),
    }


def _deltas(before: Any, after: Any) -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        return {name: _deltas(before[name], after[name]) for name in after if name in before}
    return None if before is None or after is None else round(after - before, 8)
