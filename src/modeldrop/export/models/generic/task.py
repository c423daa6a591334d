"""Any ONNX graph, or several, and what tabular frameworks save, for the process that builds.

They are taken for what they are, not for what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import Family


class Generic(Family):
    """Graphs whose inputs and outputs are known by their names, types and shapes alone."""

    name = "generic"
    input_kind = "arrays"
    measured = ("abs_error", "rel_error", "label_agreement", "rank_agreement")

    def needed(self, config: Mapping[str, Any], task: str) -> tuple[str, ...]:
        return ()

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        return []  # never inferred from a config.json: the recipe says it, or the source has none


FAMILY = Generic()
"""Graphs of any kind."""
