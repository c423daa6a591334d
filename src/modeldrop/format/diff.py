"""The differences between two versions, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from modeldrop.format.manifest import Manifest


class Difference(NamedTuple):
    """One difference: what it concerns, and both sides ("" where a side has nothing)."""

    what: str
    before: str
    after: str


def diff(before: Manifest, after: Manifest) -> list[Difference]:
    """All differences that matter to a person, in the order: origin, recipe, toolchain, variants, files."""
    return [
        change
        for old, new in zip(_sections(before, after), _sections(after, before), strict=True)
        for change in _compare(old, new)
    ]


def _compare(old: dict[str, str], new: dict[str, str]) -> list[Difference]:
    names = list(dict.fromkeys((*old, *new)))
    return [Difference(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]


def _sections(manifest: Manifest, other: Manifest) -> list[dict[str, str]]:
    shared = {variant.name for variant in manifest.variants} & {variant.name for variant in other.variants}
    figures: dict[str, str] = {}
    for variant in manifest.variants:
        figures[f"variant {variant.name}"] = f"{manifest.weights_of(variant) / 1e6:.1f} MB"
        if variant.name not in shared:
            continue
        for metric, value in variant.fidelity.metrics.items():
            figures[f"{variant.name} {metric}"] = f"{value:.5g}"
        if variant.speed is not None:
            figures[f"{variant.name} latency"] = f"{variant.speed.batch_1_ms:.2f} ms"
    return [
        {
            "task": manifest.task,
            "source": manifest.source.identity,
            "licence": manifest.source.licence,
            "epoch": str(manifest.epoch),
        },
        {f"recipe {name}": str(value) for name, value in manifest.recipe.to_json().items()},
        {f"toolchain {name}": version for name, version in manifest.toolchain.items()},
        figures,
        {f"file {file.path}": f"{file.size} bytes, sha256:{file.sha256[:12]}" for file in manifest.files},
    ]
