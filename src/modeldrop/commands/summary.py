"""A version in a few lines for people, and in plain values for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.format.labels import inputs_of
from modeldrop.format.manifest import Manifest, Speed, Variant
from modeldrop.registry.channel_writes import ChannelResult
from modeldrop.util.text import latency_text, size_text, table

if TYPE_CHECKING:
    from modeldrop.publishing.plan import Plan  # with the exporter, which most commands do without


def variant_table(manifest: Manifest) -> str:
    """Size, latency and fidelity of the variants beside the original."""
    original = manifest.original
    rows = [("original", size_text(original.weight_bytes), "", *_latency(original.speed, None), "")]
    rows += [
        (
            variant.name,
            size_text(manifest.weights_of(variant)),
            f"{manifest.weights_of(variant) / original.weight_bytes:.0%}" if original.weight_bytes else "",
            *_latency(variant.speed, original.speed),
            _fidelity(manifest, variant),
        )
        for variant in manifest.variants
    ]
    one, several = inputs_of(manifest)
    columns = ("variant", "size", "", f"1 {one}", "", f"32 {several}", "", "fidelity")
    return table(columns, rows, right=(1, 2, 3, 4, 5, 6))


def channel_line(moved: ChannelResult) -> str:
    """What became of a channel."""
    if moved.moved:
        before = f" (was v{moved.before})" if moved.before is not None else ""
        moves = f"{moved.channel} → v{moved.after}{before}, generation {moved.generation}"
        if moved.rejection is None:
            return moves
        return f"{moves}\nv{moved.after} failed its test at {moved.rejection.at}: {moved.rejection.why}"
    stays = f"{moved.channel} stays at v{moved.after}" if moved.after is not None else f"{moved.channel} was not made"
    return f"{stays}: {moved.reason}"


def channel_json(moved: ChannelResult) -> dict[str, Any]:
    """The same for programs."""
    return {
        "channel": moved.channel,
        "before": _version(moved.before),
        "after": _version(moved.after),
        "generation": moved.generation,
        "moved": moved.moved,
        "promotion": moved.promotion,
        "reason": moved.reason,
        "rejected": moved.rejection is not None,
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """What a publish would do, for programs."""
    first = plan.found[0]
    return {
        "model": plan.request.model,
        "build_key": plan.build_request.key,
        "would_build": plan.would_build,
        "would_mirror": [store.url for store in plan.would_mirror],
        "version": first and f"v{first.number}",
    }


def variants_json(manifest: Manifest) -> list[dict[str, Any]]:
    """The variants' figures for programs."""
    return [
        {
            "name": variant.name,
            "bytes": manifest.weights_of(variant),
            "metrics": dict(variant.fidelity.metrics),
            "thresholds": dict(variant.fidelity.thresholds),
            "batch_1_ms": variant.speed and variant.speed.batch_1_ms,
            "batch_32_ms": variant.speed and variant.speed.batch_32_ms,
        }
        for variant in manifest.variants
    ]


def _version(number: int | None) -> str | None:
    return None if number is None else f"v{number}"


def _latency(speed: Speed | None, original: Speed | None) -> tuple[str, str, str, str]:
    if speed is None:
        return "", "", "", ""
    if original is None:
        return latency_text(speed.batch_1_ms), "", latency_text(speed.batch_32_ms), ""
    return (
        latency_text(speed.batch_1_ms),
        _times(original.batch_1_ms, speed.batch_1_ms),
        latency_text(speed.batch_32_ms),
        _times(original.batch_32_ms, speed.batch_32_ms),
    )


def _times(before: float, after: float) -> str:
    return f"{before / after:.1f}×" if after > 0 else ""


def _fidelity(manifest: Manifest, variant: Variant) -> str:
    metrics = variant.fidelity.metrics
    parts = []
    cosines = [(metrics[f"cosine_{which}"], which) for which in ("mean", "min") if f"cosine_{which}" in metrics]
    if cosines:
        parts.append("cosine " + ", ".join(f"{value:.4f} {which}" for value, which in cosines))
    if "top1" in metrics:
        parts.append(f"top-1 {metrics['top1']:.1%}")
    if "label_agreement" in metrics:
        parts.append(f"same labels {metrics['label_agreement']:.1%}")
    if "rel_error" in metrics:
        parts.append(f"error {metrics['rel_error']:.1g}")
    if "correlation" in metrics:
        parts.append(f"correlation {metrics['correlation']:.4f}")
    for name, value in manifest.original.metrics.items():
        parts.append(f"{name} {metrics.get(name, float('nan')):.4g} (original {value:.4g})")
    return "; ".join(parts)
