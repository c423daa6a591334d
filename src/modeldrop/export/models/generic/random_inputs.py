"""Inputs drawn from a graph's signature, where nobody has named any: the same ones every time.

Which sizes free dimensions may have a graph does not say. They are tried, the usual ones first, until it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from modeldrop.errors import RecipeError
from modeldrop.format.manifest import NAMELESS, Tensor
from modeldrop.inference.runs import Array, RunStep
from modeldrop.util.text import first_line

_SIZES = (16, 64, 48, 224, 32, 640, 256, 128, 1, 2, 3, 512, 1024, 16000)
_MOST = 1 << 22
"""Elements that a drawn array may have: a picture of 16000 pixels a side would fill the memory."""
_COARSE = 1024
"""Elements of which a drawn array is made at most; larger ones repeat them, so that a manifest can hold them."""
_WORDS = ("a", "b", "c", "yes", "no")


def draw_steps(
    signatures: Mapping[str, Sequence[Tensor]], count: int, run: Callable[[Sequence[RunStep]], object]
) -> list[tuple[RunStep, ...]]:
    """So many inputs for every graph, which it takes.

    Args:
        signatures: the inputs of every graph, by its role.
        count: how many.
        run: runs steps, and raises where a graph refuses them.

    Raises:
        RecipeError: a graph takes none that is drawn.
    """
    drawn: list[list[RunStep]] = [[] for _ in range(count)]
    for role, tensors in signatures.items():
        said = ""
        for size, inner in product(_SIZES, (None, 1)):
            if any(math.prod(_shape(tensor, tensors, size, inner or size)) > _MOST for tensor in tensors):
                continue
            steps = [RunStep(role, dict(_draw(tensors, size, inner or size, seed))) for seed in range(count)]
            try:
                for step in steps:
                    run((step,))
            except Exception as error:  # noqa: BLE001  the libraries' errors have no common class
                said = said or first_line(error)
                if any(_is_free(tensor) for tensor in tensors):
                    continue
                break
            for own, step in zip(drawn, steps, strict=True):
                own.append(step)
            break
        else:
            said = said or "no size of its free dimensions suits it"
        if len(drawn[0]) <= list(signatures).index(role):
            raise RecipeError(
                f"inputs: the graph {role} does not run on inputs drawn from its signature: {said}",
                "Name real ones in the recipe: inputs = 'inputs.npz', with an array for every input of the graph: "
                f"{', '.join(tensor.name for tensor in tensors)}.",
            )
    return [tuple(steps) for steps in drawn]


def _draw(tensors: Sequence[Tensor], last: int, inner: int, seed: int) -> Iterator[tuple[str, Array]]:
    """An array for every input: a batch of one; a free dimension has the size of all others of its name.

    Args:
        tensors: the inputs.
        last: the size of a free last dimension.
        inner: that of free ones between the first and the last.
        seed: another one gives other numbers.
    """
    for number, tensor in enumerate(tensors):
        random = np.random.default_rng([seed, number])
        yield tensor.name, draw_array(tensor.dtype, _shape(tensor, tensors, last, inner), random)


def _shape(tensor: Tensor, tensors: Sequence[Tensor], last: int, inner: int) -> list[int]:
    batches = {one.shape[0] for one in tensors if one.shape} - {NAMELESS}
    shape = []
    for place, dim in enumerate(tensor.shape):
        if dim.isdecimal():
            shape.append(int(dim))
        elif place == 0 or dim in batches:
            shape.append(1)
        else:
            shape.append(last if place == len(tensor.shape) - 1 else inner)
    return shape


def draw_array(dtype: str, shape: Sequence[int], random: np.random.Generator) -> Array:
    """An array of a type and shape; large ones are coarse."""
    grid = list(shape)
    for axis in range(len(grid) - 1, -1, -1):
        while np.prod(grid) > _COARSE and grid[axis] > 1:
            grid[axis] = next((part for part in range(grid[axis] // 2, 0, -1) if grid[axis] % part == 0), 1)
    values: Array
    if dtype == "string":
        values = random.choice(_WORDS, grid)
    elif dtype == "bool":
        values = random.random(grid) < 0.5
    elif dtype.startswith("float"):
        values = (random.random(grid) if len(grid) > 2 else random.standard_normal(grid)).astype(dtype)
    else:
        values = random.integers(0, 8, grid).astype(dtype)
    for axis, (whole, part) in enumerate(zip(shape, grid, strict=True)):
        values = values.repeat(whole // part if part else 1, axis)
    return values


def _is_free(tensor: Tensor) -> bool:
    return any(not dim.isdecimal() for dim in tensor.shape[1:])
