"""Choosing a variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.errors import VariantError

if TYPE_CHECKING:
    from modeldrop.format.manifest import Manifest, Variant

AUTO = "auto"
_PREFERENCE = ("int8", "fp32")


def choose_variant(manifest: Manifest, asked: str) -> Variant:
    """The variant asked for; ``auto`` takes int8 where there is one.

    Raises:
        VariantError: the version has no such variant; says which it has.
    """
    if asked == AUTO:
        for name in _PREFERENCE:
            variant = manifest.variant(name)
            if variant is not None:
                return variant
        return manifest.variants[0]
    variant = manifest.variant(asked)
    if variant is None:
        raise VariantError(
            f"This version has no variant {asked!r}.",
            f"It has: {', '.join(variant.name for variant in manifest.variants)}.",
        )
    return variant
