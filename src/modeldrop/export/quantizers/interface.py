"""What a maker is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Make(Protocol):
    """Writes one graph of a variant.

    Args:
        source: the graph in fp32; its external data, if it has any, lies beside it.
        target: where to write. External data goes into ``<target>_data``; files have mode 0644.
        options: the kind's, of ``build/variants.py``.

    Raises:
        ExportError: the graph cannot be made into such a variant; says why.
    """

    def __call__(self, source: Path, target: Path, options: Mapping[str, Any]) -> None: ...
