"""The differences between two versions, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import latency_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.format.manifest import Manifest


class Difference(NamedTuple):
    """One difference: what it concerns, and both sides ("" where a side has nothing)."""

    what: str
    before: str
    after: str


class Facts(NamedTuple):
    """What is compared of a version, as text for people, by what each concerns.

    Attributes:
        origin: task, source, licence, epoch.
        recipe: what was asked for.
        toolchain: what it was built with.
        variants: by variant, first its size, then what was measured of it.
        files: the files.
    """

    origin: Mapping[str, str]
    recipe: Mapping[str, str]
    toolchain: Mapping[str, str]
    variants: Mapping[str, Mapping[str, str]]
    files: Mapping[str, str]


def diff(before: Manifest, after: Manifest) -> list[Difference]:
    """All differences that matter to a person, in the order: origin, recipe, toolchain, variants, files."""
    return differences(facts(before), facts(after))


def differences(before: Facts, after: Facts) -> list[Difference]:
    """The same, of what was noted of two versions. Of a variant that only one side has, its size alone is told."""
    shared = before.variants.keys() & after.variants.keys()
    return [
        change
        for old, new in zip(_sections(before, shared), _sections(after, shared), strict=True)
        for change in _compare(old, new)
    ]


def facts(manifest: Manifest) -> Facts:
    """What is compared of a version."""
    figures: dict[str, dict[str, str]] = {}
    for variant in manifest.variants:
        own = figures[variant.name] = {f"variant {variant.name}": f"{manifest.weights_of(variant) / 1e6:.1f} MB"}
        for metric, value in variant.fidelity.metrics.items():
            own[f"{variant.name} {metric}"] = f"{value:.5g}"
        if variant.speed is not None:
            own[f"{variant.name} latency"] = latency_text(variant.speed.batch_1_ms)
    return Facts(
        origin={
            "task": manifest.task,
            "source": manifest.source.identity,
            "licence": manifest.source.licence,
            "epoch": str(manifest.epoch),
        },
        recipe={f"recipe {name}": str(value) for name, value in manifest.recipe.to_json().items()},
        toolchain={f"toolchain {name}": version for name, version in manifest.toolchain.items()},
        variants=figures,
        files={f"file {file.path}": f"{file.size} bytes, sha256:{file.sha256[:12]}" for file in manifest.files},
    )


def _sections(facts: Facts, shared: set[str]) -> list[Mapping[str, str]]:
    figures: dict[str, str] = {}
    for name, own in facts.variants.items():
        figures |= own if name in shared else dict(list(own.items())[:1])
    return [facts.origin, facts.recipe, facts.toolchain, figures, facts.files]


def _compare(old: Mapping[str, str], new: Mapping[str, str]) -> list[Difference]:
    names = list(dict.fromkeys((*old, *new)))
    return [Difference(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]
