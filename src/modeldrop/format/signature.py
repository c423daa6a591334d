"""Signatures of graphs for people: what goes in and comes out, without saying the same of every layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from modeldrop.format.manifest import Tensor, Variant

# The layer's number in past_key_values.7.decoder.key.
_LAYER = re.compile(r"\.([0-9]+)\.")


def signatures(variants: Iterable[Variant]) -> list[tuple[str, list[tuple[str, str, Tensor]]]]:
    """Inputs and outputs of every graph, under the graphs' names; those with the same share a table.

    Returns:
        What the graphs are called, and a row for each tensor: ``input`` or ``output``, its name, and it.
    """
    users: dict[tuple[tuple[Tensor, ...], tuple[Tensor, ...]], dict[str, list[str]]] = {}
    for variant in variants:
        for graph in variant.signature.values():
            users.setdefault((graph.inputs, graph.outputs), {}).setdefault(graph.role, []).append(variant.name)
    return [
        (
            "; ".join(f"{role} of {', '.join(names)}" for role, names in roles.items()),
            [
                (kind, name, tensor)
                for kind, tensors in (("input", inputs), ("output", outputs))
                for name, tensor in _by_layer(tensors)
            ],
        )
        for (inputs, outputs), roles in users.items()
        if inputs or outputs
    ]


def _by_layer(tensors: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    """Tensors with their names; those of equal layers, of which large models have dozens, as one."""
    layers: dict[tuple[str, str, tuple[str, ...]], list[Tensor]] = {}
    for tensor in tensors:
        layers.setdefault((_LAYER.sub("..", tensor.name, 1), tensor.dtype, tensor.shape), []).append(tensor)
    return [(_range([tensor.name for tensor in alike]), alike[0]) for alike in layers.values()]


def _range(names: Sequence[str]) -> str:
    """``past.0…5.key`` for names that differ in their layer's number alone."""
    last = _LAYER.search(names[-1])
    if len(names) == 1 or last is None:
        return names[0]
    return _LAYER.sub(lambda first: f".{first[1]}…{last[1]}.", names[0], 1)
