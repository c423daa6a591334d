"""Whether OpenVINO has a form of a graph, told in the moment that it takes to read it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from modeldrop.errors import RecipeError
from modeldrop.util.text import first_line

# Its frontend sends usage data to its vendor; without this package it sends nothing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

_UNKNOWN = re.compile(r"No conversion rule found for operations: (?P<operators>[^\n]+)")
_FAILED = re.compile(r"-- (?P<operator>\S+) with a message:\n(?:\[ONNX Frontend\][^\n]*\n)?(?P<why>[^\n]+)")
_OPSET = re.compile(r"-\d+(?=,|$)")


def check_convertible(graphs: Mapping[str, Path]) -> None:
    """Refuse graphs that OpenVINO cannot read.

    Args:
        graphs: ONNX graphs by role.

    Raises:
        RecipeError: names the graph, and the operators that it has no form of.
    """
    for role, path in graphs.items():
        try:
            openvino.convert_model(path)
        except Exception as error:
            raise RecipeError(
                f"variants: OpenVINO {openvino.__version__.partition('-')[0]} cannot read the graph {role}: "
                f"{_reason(str(error))}",
                "Leave the variants for OpenVINO out of the recipe.",
            ) from error


def _reason(said: str) -> str:
    unknown, failed = _UNKNOWN.search(said), _FAILED.search(said)
    if unknown:
        return f"it has no form of {_OPSET.sub('', unknown['operators'].strip())}."
    if failed:
        return f"{_OPSET.sub('', failed['operator'])}: {failed['why']}"
    return first_line(Exception(said))
