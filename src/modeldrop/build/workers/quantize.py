"""Make the variants from the graphs in fp32, and describe them all.

Runs as ``python -m modeldrop.build.workers.quantize REQUEST``, without PyTorch. The request: ``output`` (the version's
folder), ``roles`` (of the graphs), ``variants`` (names), ``keep`` (by variant, patterns of the names of nodes that stay
as they are), and ``calibration`` (the recipe's file, or null).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import onnx

from modeldrop.build.variants import FP32, KINDS
from modeldrop.build.workers.graphs import all_graphs, describe
from modeldrop.build.workers.makers import maker
from modeldrop.build.workers.protocol import Events, serve
from modeldrop.errors import ExportError, RecipeError


def work(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Make all of them; the result describes the graphs, by variant and role."""
    output, roles, names = Path(request["output"]), request["roles"], request["variants"]
    made = [KINDS[name] for name in names if KINDS[name].maker]
    kept = {
        name: kept_nodes(name, patterns, [output / FP32.path(role) for role in roles])
        for name, patterns in request["keep"].items()
    }
    for number, kind in enumerate(made):
        events.progress(number, len(made))
        for role in roles:
            try:
                maker(kind.maker)(
                    output / FP32.path(role),
                    output / kind.path(role),
                    {
                        **kind.options,
                        "keep": kept.get(kind.name, []),
                        "calibration": request["calibration"],
                        "tokenizer": str(output),
                    },
                )
            except ExportError:
                raise
            except Exception as error:
                line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
                raise ExportError(
                    f"{kind.name} could not be made of {role}.onnx: {line}",
                    f"Leave {kind.name} out of the recipe's variants.",
                ) from error
    fp32 = {role: describe(output / FP32.path(role)) for role in roles}
    return {"graphs": {name: {role: _described(output, name, role, fp32[role]) for role in roles} for name in names}}


def _described(output: Path, name: str, role: str, fp32: dict[str, Any]) -> dict[str, Any]:
    path = output / KINDS[name].path(role)
    if path.suffix == ".xml":
        # Opset and IR version of what it was made from; inputs and outputs keep their names.
        return fp32 | {"external": [path.with_suffix(".bin").name], "operators": []}
    return describe(path)


def kept_nodes(variant: str, patterns: Sequence[str], graphs: Sequence[Path]) -> list[str]:
    """The names of the nodes that patterns mean.

    Args:
        variant: its name.
        patterns: with ``*`` and ``?``.
        graphs: paths of the graphs in fp32.

    Raises:
        RecipeError: a pattern means none.
    """
    names = [
        node.name
        for path in graphs
        for graph in all_graphs(onnx.load(path, load_external_data=False).graph)
        for node in graph.node
        if node.name
    ]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            weighty = [name for name in names if name.rpartition("/")[2].startswith(("MatMul", "Gather", "Conv"))]
            raise RecipeError(
                f"options.{variant}.keep_layers: no node is called {pattern!r}.",
                f"It has {len(names)}, such as {', '.join(weighty[:3])}.",
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


if __name__ == "__main__":
    serve(work)
