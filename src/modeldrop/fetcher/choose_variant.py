"""Choosing a variant: the one that is wanted, or the one that this machine runs best and faithfully."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modeldrop.errors import VariantError
from modeldrop.fetcher.machine import Machine, check_runtime, this_machine
from modeldrop.fetcher.options import AUTO
from modeldrop.format.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeldrop.format.manifest import Manifest, Variant


_NOISE = 1.1
"""How many times as slow, by the mean of a batch of one and of 32, is slower and no chance."""

_TRIFLE_MS = 5.0
"""What a batch of 32 may take longer whatever the ratio: of graphs that small, a busy builder measures either faster,
and ``auto`` would change its mind from version to version."""


def preference(manifest: Manifest, machine: Machine) -> tuple[Variant, ...]:
    """The version's variants that ``auto`` may take on a machine, best first.

    Never those tuned to what the CPU lacks; nor int4, which gives up too much to be chosen unasked; nor OpenVINO's,
    which need another runtime, where there are others. Names that this release does not know come last. On a CPU, none
    comes before one that is closer to the original and was faster where they were measured.
    """
    variants = manifest.variants
    if all(variant.name.startswith("openvino") for variant in variants):
        # Where a version has nothing else; its int4 only if that is all there is.
        allowed = [variant for variant in variants if not variant.name.startswith("openvino-int4")] or list(variants)
    else:
        allowed = [variant for variant in variants if _may_be_taken(variant.name, machine)]
    ranked = sorted(allowed, key=lambda variant: _rank(variant.name, machine))
    return tuple(ranked if machine.cuda else _as_measured(ranked))


def candidates(manifest: Manifest, wanted: str, *, with_fallbacks: bool) -> list[Variant]:
    """The variants that may be taken, best first, all of which the installed onnxruntime can load.

    Args:
        manifest: the version's.
        wanted: a variant's name, or ``auto``.
        with_fallbacks: whether ``auto`` may take another than the best.

    Raises:
        VariantError: there is none.
    """
    best = choose_variant(manifest, wanted)
    if wanted != AUTO:
        check_runtime(best)
        return [best]
    if not with_fallbacks:
        return [best]
    rest = preference(manifest, this_machine())
    return [best, *(variant for variant in rest[rest.index(best) + 1 :] if _loads(variant))]


def choose_variant(manifest: Manifest, wanted: str, machine: Machine | None = None) -> Variant:
    """The variant that is wanted; ``auto`` takes the best for this machine that an installed onnxruntime can load.

    Args:
        manifest: the version's.
        wanted: a variant's name, or ``auto``.
        machine: what it is for; None for this one.

    Raises:
        VariantError: the version has no such variant, or none for this machine; says which it has.
        UsageError: ``MODELDROP_CPU`` does not name a CPU.
    """
    if wanted == AUTO:
        return _best(preference(manifest, machine or this_machine()), manifest)
    variant = manifest.variant(wanted)
    if variant is None:
        raise VariantError(f"This version has no variant {wanted!r}.", f"It has: {_names(manifest)}.")
    return variant


def _best(variants: Sequence[Variant], manifest: Manifest) -> Variant:
    first: VariantError | None = None
    for variant in variants:
        try:
            check_runtime(variant)
        except VariantError as error:
            first = first or error
        else:
            return variant
    raise first or VariantError(
        "This version has no variant that may be chosen unasked on this machine.",
        f"Name the one you want (--variant). It has: {_names(manifest)}.",
    )


def _loads(variant: Variant) -> bool:
    try:
        check_runtime(variant)
    except VariantError:
        return False
    return True


def _may_be_taken(name: str, machine: Machine) -> bool:
    spec = VARIANTS.get(name)
    if spec is not None and spec.cpu is not None:
        arch, flag = spec.cpu
        return machine.arch == arch and flag in machine.flags
    return not name.startswith(("int4", "openvino"))


def _rank(name: str, machine: Machine) -> float:
    spec = VARIANTS.get(name)
    if spec is None or spec.rank is None:
        return math.inf
    if machine.cuda and spec.rank_cuda is not None:
        return spec.rank_cuda
    if not machine.dot_products and spec.rank_without_dot_products is not None:
        return spec.rank_without_dot_products
    return spec.rank


def _as_measured(ranked: list[Variant]) -> list[Variant]:
    """The same variants, each behind those that it is worse than in every respect but size."""
    left, order = list(ranked), []
    while left:
        # The closest one of all is always better than none.
        first = next(one for one in left if not any(_outdoes(other, one) for other in left))
        left.remove(first)
        order.append(first)
    return order


def _outdoes(one: Variant, other: Variant) -> bool:
    """Whether it is closer to the original and was faster, by more than such measurements vary."""
    mine, its = VARIANTS.get(one.name), VARIANTS.get(other.name)
    if mine is None or its is None or one.speed is None or other.speed is None or not mine.is_closer_than(its):
        return False
    times = [speed.batch_1_ms * speed.batch_32_ms for speed in (one.speed, other.speed)]
    return times[0] * _NOISE**2 < times[1] and one.speed.batch_32_ms + _TRIFLE_MS < other.speed.batch_32_ms


def _names(manifest: Manifest) -> str:
    return ", ".join(variant.name for variant in manifest.variants)
