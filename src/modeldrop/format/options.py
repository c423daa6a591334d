"""What a recipe asks of one variant besides thresholds: gates, layers to keep, whether to search."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from modeldrop.format.json_fields import Fields

SEARCHED = ("int8", "int8-avx512-vnni", "int8-avx2", "int8-arm64", "uint8")
"""The variants that ``auto`` can search for."""

_SIZE = re.compile(r"(?P<number>[0-9]{1,12}(\.[0-9]{1,6})?) ?(?P<unit>%|kB|MB|GB)")
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
_MAX_PATTERNS = 1000
_OPTIMIZED = ("o1", "o2", "o3", "o4")


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of one variant.

    Attributes:
        max_size: the most its graphs and weights may take: a share of fp32's (``27%``), or bytes (``25 MB``); "" for
            any size.
        must_be_faster: by how much it must be faster than fp32, 1.0 for faster at all; 0.0 for no such gate.
        keep_layers: patterns, with ``*`` and ``?``, of the names of nodes that stay as they are in fp32.
        auto: search for the smallest one that meets the thresholds.
    """

    max_size: str = ""
    must_be_faster: float = 0.0
    keep_layers: tuple[str, ...] = ()
    auto: bool = False

    def most_bytes(self, fp32: int) -> float:
        """The most bytes that are allowed where fp32 has so many; infinite without a gate."""
        match = _SIZE.fullmatch(self.max_size)
        if match is None:
            return float("inf")
        number = float(match["number"])
        return number / 100 * fp32 if match["unit"] == "%" else number * _UNITS[match["unit"]]

    def to_json(self) -> dict[str, Any]:
        """The options as plain values, leaving out what has its default."""
        plain: dict[str, Any] = {}
        if self.max_size:
            plain["max_size"] = self.max_size
        if self.must_be_faster:
            plain["must_be_faster"] = self.must_be_faster
        if self.keep_layers:
            plain["keep_layers"] = list(self.keep_layers)
        if self.auto:
            plain["auto"] = True
        return plain


def read_options(fields: Fields, variant: str, *, strict: bool) -> Options:
    """Read the options of a variant.

    Args:
        fields: them.
        variant: its name.
        strict: refuse unknown keys, and what this variant cannot do.

    Raises:
        FormatError: naming the field.
    """
    options = Options(
        max_size=fields.text("max_size", default="", limit=64, pattern=_SIZE if strict else None),
        must_be_faster=_speed(fields),
        keep_layers=fields.texts("keep_layers", limit=_MAX_PATTERNS, default=()),
        auto=fields.boolean("auto", default=False),
    )
    if strict:
        fields.refuse_unknown()
        if options.auto and variant not in SEARCHED:
            fields.fail(f"{variant} is made in one way only; there is a search for: {', '.join(SEARCHED)}", "auto")
        if options.keep_layers and variant in _OPTIMIZED:
            fields.fail("layers are fused, not quantized, and a fused one has no name of its own", "keep_layers")
        if variant == "fp32" and options.to_json():
            fields.fail("fp32 is what the others are made of and measured by", next(iter(options.to_json())))
    return options


def _speed(fields: Fields) -> float:
    if not fields.has("must_be_faster"):
        return 0.0
    value = fields.flag_or_number("must_be_faster")
    if not 0 <= value <= 1000:
        fields.fail("must be true, false, or how many times as fast as fp32, from 0 to 1000", "must_be_faster")
    return value
