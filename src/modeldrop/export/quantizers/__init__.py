"""What makes a variant's graph from the one in fp32: a module each, with the one function that ``interface`` names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeldrop.export.quantizers.interface import Make


def maker(name: str) -> Make:
    """The ``make`` of a module here."""
    return import_module(f"{__name__}.{name}").make  # type: ignore[no-any-return]
