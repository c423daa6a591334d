"""Recipes for models of random weights, which may quantize as badly as can be: the mechanics are what is tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.format.recipe import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LOOSEST = {">=": -1.0, "<=": 1e9}


def loosened(folder: Path, metrics: Iterable[str], variants: Iterable[str] = ("int8",), task: str = "") -> Path:
    """A recipe that builds fp32 and ``variants``, and asks nothing of these by the metrics that their task has."""
    lines = [f"variants = {['fp32', *variants]}", *([f'task = "{task}"'] if task else [])]
    for variant in variants:
        lines += [f"[thresholds.{variant}]", *(f"{name} = {_LOOSEST[METRICS[name]]}" for name in metrics)]
    path = folder / "loose.toml"
    path.write_text("\n".join(lines))
    return path
