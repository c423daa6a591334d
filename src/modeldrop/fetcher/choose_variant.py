"""Choosing a variant: what was asked for, or what this machine runs best and faithfully."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.errors import VariantError
from modeldrop.fetcher.machine import Machine, check_runtime, this_machine
from modeldrop.fetcher.options import AUTO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeldrop.format.manifest import Manifest, Variant

# Tuned to one instruction set: elsewhere they are slow, or answer differently than was proven.
_TUNED = {
    "int8-avx512-vnni": ("x86_64", "avx512_vnni"),
    "int8-avx2": ("x86_64", "avx2"),
    "int8-arm64": ("aarch64", "asimddp"),
}
# Fastest first. int8-accurate computes the same on every CPU, at the speed of fp32 and a quarter of its bytes.
_WITH_DOT_PRODUCTS = ("int8-avx512-vnni", "int8-arm64", "int8", "int8-static", "int8-accurate", "int8-avx2", "fp32")
# Without them, x86 adds pairs of 8-bit products in 16 bits. int8 and int8-static have weights of 7 bits, so that no
# pair saturates: they answer as they were proven. int8-avx2 answers the same too, and multiplies more slowly.
_WITHOUT = ("int8", "int8-static", "int8-avx2", "int8-accurate", "fp32")
_CUDA = ("fp16", "o4", "fp32")
_LAST = ("o2", "o1", "o3", "fp16", "o4", "uint8")
_OPENVINO = ("openvino-int8", "openvino-fp16", "openvino-fp32")


def preference(manifest: Manifest, machine: Machine) -> tuple[Variant, ...]:
    """The version's variants that ``auto`` may take on a machine, best first.

    Never those tuned to what the CPU lacks; nor int4, which gives up too much to be chosen unasked; nor OpenVINO's,
    which need another runtime, where there are others. Names that this release does not know come last.
    """
    if all(variant.name.startswith("openvino") for variant in manifest.variants):
        return _of_openvino(manifest)
    known = [*_CUDA] if machine.cuda else []
    known += [*(_WITH_DOT_PRODUCTS if machine.dot_products else _WITHOUT), *_LAST]
    rank = {name: place for place, name in reversed(list(enumerate(known)))}
    allowed = [variant for variant in manifest.variants if _may_be_taken(variant.name, machine)]
    return tuple(sorted(allowed, key=lambda variant: rank.get(variant.name, len(known))))


def _of_openvino(manifest: Manifest) -> tuple[Variant, ...]:
    """Where a version has nothing else: int4, which is never taken unasked, only if it is all there is."""
    exact = [variant for variant in manifest.variants if not variant.name.startswith("openvino-int4")]
    rank = {name: place for place, name in enumerate(_OPENVINO)}
    return tuple(sorted(exact or manifest.variants, key=lambda variant: rank.get(variant.name, len(rank))))


def choose_variant(manifest: Manifest, asked: str, machine: Machine | None = None) -> Variant:
    """The variant asked for; ``auto`` takes the best for this machine that an installed onnxruntime can load.

    Args:
        manifest: the version's.
        asked: a variant's name, or ``auto``.
        machine: what it is for; None for this one.

    Raises:
        VariantError: the version has no such variant, or none for this machine; says which it has.
        UsageError: ``MODELDROP_CPU`` does not name a CPU.
    """
    if asked == AUTO:
        return _best(preference(manifest, machine or this_machine()), manifest)
    variant = manifest.variant(asked)
    if variant is None:
        raise VariantError(f"This version has no variant {asked!r}.", f"It has: {_names(manifest)}.")
    return variant


def _best(candidates: Sequence[Variant], manifest: Manifest) -> Variant:
    first: VariantError | None = None
    for variant in candidates:
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


def _may_be_taken(name: str, machine: Machine) -> bool:
    if name in _TUNED:
        arch, flag = _TUNED[name]
        return machine.arch == arch and flag in machine.flags
    return not name.startswith(("int4", "openvino"))


def _names(manifest: Manifest) -> str:
    return ", ".join(variant.name for variant in manifest.variants)
