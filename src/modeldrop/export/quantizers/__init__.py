"""What makes a variant's graph from the one in fp32: a module each, whose ``make`` is a ``Quantizer``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol


class Quantizer(Protocol):
    """Writes one graph of a variant.

    Args:
        source: the graph in fp32; its external data, if it has any, lies beside it.
        target: where to write. External data goes into ``<target>_data``; files have mode 0644.
        options: the variant's, of ``format/variants.py``; ``keep``, names of nodes that stay as they are;
            ``calibration``, the recipe's file or None; and ``folder``, the version's, for its tokenizer and config.

    Raises:
        ExportError: the graph cannot be made into such a variant; says why.
    """

    def __call__(self, source: Path, target: Path, options: Mapping[str, Any]) -> None: ...


def quantizer(name: str) -> Quantizer:
    """The ``make`` of a module here."""
    return import_module(f"{__name__}.{name}").make  # type: ignore[no-any-return]
