"""One torch module to one graph: torch's dynamo traces it with the free dimensions that the recipe names.

That these stay free is proven: the graph is asked for sizes that were not traced, and must answer as the module does.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch.export import Dim

from modeldrop.errors import ExportError, RecipeError
from modeldrop.export.models.generic.own_module import Flattened, OwnModule, Tensors
from modeldrop.export.models.shared.dynamo_graph import forget_origin, rename_axes, save_program
from modeldrop.format.dynamic_shapes import Dimension
from modeldrop.util.text import first_line

_OPSET = 18
_CLOSE = 1e-3
_VIOLATED = re.compile(r"Constraints violated \((?P<names>[\w, ]+)\)")
_SUGGESTED = re.compile(r"Suggested fixes:\n(?P<fixes>(?: +.+\n?)+)")
_CALL = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)\n +(?P<code>.+)')
_NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='(?P<operator>[^']+)'")

Shapes = Mapping[str, Mapping[int, Dimension]]


def check_shapes(own: OwnModule, shapes: Shapes) -> None:
    """Refuse free dimensions of inputs that the module does not have.

    Raises:
        RecipeError: an input or a dimension is not there, or two of one name have other sizes.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, dims in shapes.items():
        if name not in own.example:
            raise RecipeError(
                f"dynamic_shapes: the module takes no {name}; it takes {', '.join(own.example)}.",
                "The names are those of its forward's parameters.",
            )
        shape = own.example[name].shape
        for number, dim in dims.items():
            place = f"dimension {number} of {name}"
            if number >= len(shape):
                raise RecipeError(
                    f"dynamic_shapes: there is no {place}, whose example has the shape {list(shape)}.",
                    "Dimensions are counted from 0.",
                )
            if shape[number] == 0 or shape[number] % dim.times or shape[number] > (dim.most or shape[number]):
                raise RecipeError(f"dynamic_shapes: {place} has the size {shape[number]} in its example, not {dim}.")
            size, other = sizes.setdefault(dim.name, (shape[number] // dim.times, place))
            if size != shape[number] // dim.times:
                raise RecipeError(
                    f"dynamic_shapes: {dim.name} is {size} by {other}, and {shape[number] // dim.times} by {place}.",
                    "Dimensions of one name have one size; give them two names.",
                )


def sizes_of(own: OwnModule, shapes: Shapes) -> dict[str, int]:
    """The sizes of the free dimensions in the example inputs, by name."""
    return {
        dim.name: own.example[name].shape[number] // dim.times
        for name, dims in shapes.items()
        for number, dim in dims.items()
    }


def largest(shapes: Shapes, name: str) -> int | None:
    """The largest size that a free dimension may have; None for any."""
    limits = [
        dim.most // dim.times
        for dims in shapes.values()
        for dim in dims.values()
        if dim.name == name and dim.most is not None
    ]
    return min(limits, default=None)


def resized(inputs: Tensors, shapes: Shapes, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Inputs whose free dimensions have other sizes, made by repeating what is there."""
    made = {}
    for name, tensor in inputs.items():
        for number, dim in shapes.get(name, {}).items():
            wanted = sizes[dim.name] * dim.times
            index = torch.arange(wanted) % tensor.shape[number]
            tensor = tensor.index_select(number, index)  # noqa: PLW2901  one dimension after the other
        made[name] = tensor.contiguous()
    return made


def export_module(own: OwnModule, shapes: Shapes, path: Path, opset: int | None) -> None:
    """Write the graph.

    Args:
        own: the module.
        shapes: the free dimensions of its inputs.
        path: where to.
        opset: the version of ONNX's operators; None for the one that suits.

    Raises:
        ExportError: it cannot be exported, or only with a dimension that is not free; the message names it.
    """
    traced = _traced_sizes(own, shapes)
    inputs = resized(own.example, shapes, traced)
    with torch.inference_mode():
        try:
            names = list(own.answer(inputs))
        except Exception as error:
            shown = ", ".join(f"{name} {size}" for name, size in traced.items())
            raise ExportError(
                f"The module takes its example inputs, and fails where these are repeated to {shown}: "
                f"{first_line(error)}",
                "Free dimensions take any size: write a bound (length <= 512) or a multiple (8*blocks), or leave "
                "what is fixed out of dynamic_shapes.",
            ) from error
    with _quiet():
        program = _converted(_traced(own, shapes, inputs), list(own.example), names, opset)
    if len(program.graph.outputs) != len(names):
        raise ExportError(
            f"The graph has {len(program.graph.outputs)} outputs, and the module {len(names)}: {', '.join(names)}.",
            "Let its forward change none of its inputs, and answer each tensor once.",
        )
    _name_axes(program.graph, shapes)
    forget_origin(program)
    save_program(program, path)
    _check_sizes(own, shapes, inputs, traced, path)


def _traced_sizes(own: OwnModule, shapes: Shapes) -> dict[str, int]:
    """Sizes to trace with: those of the example, but neither 1, which torch takes for fixed, nor one size twice."""
    sizes: dict[str, int] = {}
    for name, size in sizes_of(own, shapes).items():
        most = largest(shapes, name)
        wanted = next(one for one in itertools.count(max(size, 2)) if one not in sizes.values())
        sizes[name] = wanted if most is None else min(wanted, most)
    return sizes


def _traced(own: OwnModule, shapes: Shapes, inputs: Tensors) -> Any:
    free = {name: Dim(name, min=1, max=largest(shapes, name)) for name in sizes_of(own, shapes)}
    dims = tuple(
        {number: free[dim.name] * dim.times if dim.times > 1 else free[dim.name] for number, dim in given.items()}
        for given in (shapes.get(name, {}) for name in inputs)
    )
    try:
        return torch.export.export(
            Flattened(own), tuple(inputs.values()), dynamic_shapes={"tensors": dims}, strict=False
        )
    except Exception as error:
        text = str(error)
        violated = _VIOLATED.search(text)
        if violated:
            raise _frozen(violated["names"], _reason(text)) from error
        raise ExportError(
            f"torch.export cannot trace {type(own.module).__name__}: {first_line(error)}", _place(text, error)
        ) from error


def _reason(text: str) -> str:
    """Why torch does not leave a dimension free, and what it proposes."""
    why = next((line.strip(" -") for line in text.splitlines() if line.startswith("  - ")), first_line(Exception(text)))
    fixes = _SUGGESTED.search(text)
    proposed = f" torch proposes: {'; '.join(fixes['fixes'].split(chr(10))).strip('; ')}" if fixes else ""
    # Its advice is about arguments of its own.
    return why.partition(". If you're using")[0] + "." + re.sub(r"\s+", " ", proposed)


def _place(text: str, error: BaseException) -> str:
    """Where in somebody's code it was."""
    calls = list(_CALL.finditer(text)) or list(_CALL.finditer("".join(traceback.format_tb(error.__traceback__))))
    own = [call for call in calls if "site-packages" not in call["file"]]
    advice = "A graph has no branches on what its inputs hold: write them with torch.where or torch.cond."
    if not own:
        return advice
    last = own[-1]
    return f"{Path(last['file']).name}, line {last['line']}, in {last['function']}: {last['code'].strip()}\n  {advice}"


def _converted(program: Any, inputs: list[str], outputs: list[str], opset: int | None) -> Any:
    try:
        return torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            opset_version=opset or _OPSET,
            verbose=False,
        ).model  # type: ignore[union-attr]
    except Exception as error:
        unknown = _NO_OPERATOR.search(str(error))
        if unknown:
            raise ExportError(
                f"torch {torch.__version__} has no ONNX operators for {unknown['operator']}.",
                "Compute it otherwise, or outside of the module.",
            ) from error
        raise ExportError(
            f"torch could not convert the traced module to ONNX: {first_line(error)}", "--debug shows all that it says."
        ) from error


def _name_axes(graph: Any, shapes: Shapes) -> None:
    """Call the free axes as the recipe does; refuse those that were fixed without a word."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for number, dim in sorted(shapes.get(value.name, {}).items(), key=lambda pair: pair[1].times):
            axis = value.shape[number]
            if isinstance(axis, int):
                raise _frozen(dim.name, f"dimension {number} of {value.name} is {axis} in the graph")
            for symbol in re.findall(r"[A-Za-z_]\w*", str(axis.value)):
                names.setdefault(symbol, dim.name)
    rename_axes(graph, names)


def _check_sizes(own: OwnModule, shapes: Shapes, inputs: Tensors, traced: Mapping[str, int], path: Path) -> None:
    """Refuse a graph that answers otherwise than the module for a size that was not traced, whatever it declares."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for name, size in traced.items():
        most = largest(shapes, name)
        for other in (1, size + 1, 2 * size + 1):
            if most is not None and other > most:
                continue
            feeds = resized(inputs, shapes, {**traced, name: other})
            wanted = own_answer(own, feeds)
            if wanted is None:
                continue  # the module itself does not take it
            shown = f"{name} {other}"
            try:
                got = session.run(list(wanted), {key: tensor.numpy() for key, tensor in feeds.items()})
            except Exception as error:
                raise _frozen(name, f"with {shown} the graph fails: {first_line(error)}") from error
            for (output, array), mine in zip(wanted.items(), got, strict=True):
                if not _is_close(mine, array):
                    raise _frozen(name, f"with {shown} the graph answers another {output} than the module")


def own_answer(own: OwnModule, feeds: Tensors) -> dict[str, Any] | None:
    """What the module answers, in numpy's arrays; None where it does not take such inputs."""
    with torch.inference_mode(), contextlib.suppress(Exception):
        return {name: tensor.numpy() for name, tensor in own.answer(feeds).items()}
    return None


def _is_close(mine: Any, wanted: Any) -> bool:
    if mine.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f":
        return bool((mine == wanted).mean() > 1 - _CLOSE) if wanted.size else True
    scale = max(1.0, float(np.nan_to_num(np.abs(wanted)).max(initial=0.0)))
    return bool(np.allclose(mine, wanted, rtol=0, atol=_CLOSE * scale, equal_nan=True))


def _frozen(names: str, why: str) -> ExportError:
    several = ", " in names
    return ExportError(
        f"The dimension{'s' if several else ''} {names} of dynamic_shapes "
        f"{'do' if several else 'does'} not stay free: {why[:500].rstrip('.')}.",
        "Change the code that takes the size for a constant, write its bound (length <= 512) or its multiple "
        "(8*blocks), or leave it out of dynamic_shapes.",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What torch prints and warns of, nobody here can change."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
