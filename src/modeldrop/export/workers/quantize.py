"""Make the variants from the graphs that the source gave, in fp32 or as OpenVINO has them, and describe them all.

Runs as ``python -m modeldrop.export.workers.quantize REQUEST``, without PyTorch; see ``messages.QuantizeRequest``.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import onnx

from modeldrop.errors import ExportError, RecipeError
from modeldrop.export.graph_files import graph_bytes, remove_graph
from modeldrop.export.messages import GraphDescription, MadeVariants, QuantizeRequest
from modeldrop.export.onnx_files import all_graphs, describe_onnx
from modeldrop.export.onnx_weights import arrange
from modeldrop.export.openvino_ir import read_ir
from modeldrop.export.quantizers import quantizer
from modeldrop.export.quantizers.merged_decoder import separate
from modeldrop.export.variants import LIBRARIES
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.variants import MERGED_PARTS, OPENVINO, VARIANTS, VariantSpec
from modeldrop.util.text import first_line

_OPENVINO = ".xml"
_SMALLER = 0.95


def work(request: QuantizeRequest, events: Events) -> MadeVariants:
    """Make all of them."""
    output, roles, names = request.output, request.roles, request.variants
    origin = VARIANTS[request.origin]
    whole = {role: output / origin.path(role) for role in roles}
    made = [VARIANTS[name] for name in names if name != origin.name]
    dropped: dict[str, str] = {}
    kept = {name: kept_nodes(name, patterns, list(whole.values())) for name, patterns in request.keep.items()}
    with tempfile.TemporaryDirectory(dir=output.parent, prefix="branches-") as folder:
        parts = dict(_parts(whole, Path(folder))) if any(spec.quantizer == OPENVINO for spec in made) else {}
        for number, spec in enumerate(made):
            events.progress(number, len(made))
            options = {
                **spec.options,
                "keep": kept.get(spec.name, []),
                "calibration": request.calibration,
                "folder": output,
            }
            graphs = {whole.get(role) or parts[role]: output / path for role, path in spec.graphs(roles).items()}
            try:
                for source, target in graphs.items():
                    _make(spec, source, target, options)
                _check_smaller(spec, whole.values(), graphs.values())
            except ExportError as error:
                if spec.name not in request.optional:
                    raise
                dropped[spec.name] = error.message
                for target in graphs.values():
                    remove_graph(target)
    for name in names:
        if name not in dropped:
            for path in VARIANTS[name].graphs(roles).values():
                arrange(output / path, request.external_data, ready=request.ready and name == origin.name)
    described = {role: _of_origin(path) for role, path in whole.items()}
    return MadeVariants(
        graphs={
            name: {
                role: _described(output / path, role, described) for role, path in VARIANTS[name].graphs(roles).items()
            }
            for name in names
            if name not in dropped
        },
        dropped=dropped,
        toolchain={
            library: importlib.metadata.version(library)
            for library in sorted({library for spec in made for library in LIBRARIES.get(spec.extra, ())})
        },
    )


def _parts(whole: Mapping[str, Path], folder: Path) -> Iterator[tuple[str, Path]]:
    for role, path in whole.items():
        if role in MERGED_PARTS:
            yield from zip(MERGED_PARTS[role], separate(path, folder), strict=True)


def _make(spec: VariantSpec, source: Path, target: Path, options: dict[str, Any]) -> None:
    try:
        quantizer(spec.quantizer)(source, target, options)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"{spec.name} could not be made of {source.name}: {first_line(error)}",
            f"Leave {spec.name} out of the recipe's variants.",
        ) from error


def _check_smaller(spec: VariantSpec, origin: Iterable[Path], graphs: Iterable[Path]) -> None:
    """Refuse weights in 8 or 4 bits that are not smaller: nothing was there that this variant makes small.

    Raises:
        ExportError: says how large it is.
    """
    before, after = (sum(map(graph_bytes, paths)) for paths in (origin, graphs))
    if spec.has_small_weights and after > _SMALLER * before:
        raise ExportError(
            f"{spec.name} of this model is a copy of fp32 with {after / before:.0%} of its bytes: there are no weights "
            "in it that this variant makes smaller.",
            f"Leave {spec.name} out of the recipe's variants; of convolutions, fp16 and int8-static are smaller.",
        )


def _of_origin(path: Path) -> GraphDescription:
    if path.suffix != _OPENVINO:
        return describe_onnx(path)
    ir = read_ir(path)
    return GraphDescription(opset=ir.opset, ir_version=ir.version)


def _described(path: Path, role: str, origin: Mapping[str, GraphDescription]) -> GraphDescription:
    if path.suffix != _OPENVINO:
        return describe_onnx(path)
    from modeldrop.export.quantizers.openvino import describe_openvino

    whole = origin.get(role) or next(origin[merged] for merged, parts in MERGED_PARTS.items() if role in parts)
    return describe_openvino(path, whole)


def kept_nodes(variant: str, patterns: Sequence[str], graphs: Sequence[Path]) -> list[str]:
    """The names of the nodes that patterns mean.

    Args:
        variant: its name.
        patterns: with ``*`` and ``?``.
        graphs: paths of the graphs that variants are made of.

    Raises:
        RecipeError: a pattern means none.
    """
    names = [name for path in graphs for name in _names(path) if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            weighty = [name for name in names if name.rpartition("/")[2].startswith(("MatMul", "Gather", "Conv"))]
            raise RecipeError(
                f"options.{variant}.keep_layers: no node is called {pattern!r}.",
                f"It has {len(names)}, such as {', '.join(weighty[:3])}.",
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _names(path: Path) -> Iterator[str]:
    if path.suffix == _OPENVINO:
        yield from read_ir(path).names
        return
    for graph in all_graphs(onnx.load(path, load_external_data=False).graph):
        yield from (node.name for node in graph.node)


if __name__ == "__main__":
    serve(work, QuantizeRequest)
