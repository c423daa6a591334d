"""Make the variants from the graphs in fp32, and describe them all.

Runs as ``python -m modeldrop.build.workers.quantize REQUEST``, without PyTorch. The request: ``output`` (the version's
folder), ``roles`` (of the graphs), and ``variants`` (names).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modeldrop.build.variants import FP32, KINDS
from modeldrop.build.workers.graphs import describe
from modeldrop.build.workers.makers import maker
from modeldrop.build.workers.protocol import Events, serve
from modeldrop.errors import ExportError


def work(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Make all of them; the result describes the graphs, by variant and role."""
    output, roles, names = Path(request["output"]), request["roles"], request["variants"]
    made = [KINDS[name] for name in names if KINDS[name].maker]
    for number, kind in enumerate(made):
        events.progress(number, len(made))
        for role in roles:
            try:
                maker(kind.maker)(output / FP32.path(role), output / kind.path(role), kind.options)
            except ExportError:
                raise
            except Exception as error:
                line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
                raise ExportError(
                    f"{kind.name} could not be made of {role}.onnx: {line}",
                    f"Leave {kind.name} out of the recipe's variants.",
                ) from error
    return {"graphs": {name: {role: describe(output / KINDS[name].path(role)) for role in roles} for name in names}}


if __name__ == "__main__":
    serve(work)
