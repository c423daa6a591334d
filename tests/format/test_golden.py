"""Manifests of models with several graphs, proven on chains of runs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from modeldrop.errors import FormatError
from modeldrop.format.golden import TensorValue
from modeldrop.format.manifest import parse_manifest, serialize_manifest
from modeldrop.inference.runs import unfold
from tests.format import examples
from tests.format.strategies import mutated
from tests.format.test_manifest import Change, assert_printable

EXAMPLE = serialize_manifest(examples.manifest_of_graphs())
CHAIN = ("golden", "chains", 0)
LITERAL = (*CHAIN, "steps", 0, "inputs", "input_ids")
GRID = (*CHAIN, "steps", 1, "inputs", "bias")
LINK = (*CHAIN, "steps", 1, "inputs", "encoder_hidden_states")


def changed(change: Change) -> bytes:
    document = json.loads(EXAMPLE)
    change(document)
    return json.dumps(document).encode()


def _set(*spot: Any) -> Change:
    *route, last, value = spot

    def change(document: Any) -> None:
        for step in route:
            document = document[step]
        document[last] = value

    return change


BY_SCHEMA: dict[str, Change] = {
    "type that is none": _set(*LITERAL, "dtype", "object"),
    "type as a number": _set(*LITERAL, "dtype", 7),
    "values as text": _set(*LITERAL, "values", ["1", "2", "3"]),
    "negative dimension": _set(*LITERAL, "shape", [1, -3]),
    "too many dimensions": _set(*LITERAL, "shape", [1] * 9),
    "link to a negative step": _set(*LINK, "step", -1),
    "link without a step": _set(*LINK, {"output": "last_hidden_state"}),
    "no steps": _set(*CHAIN, "steps", []),
    "no outputs": _set(*CHAIN, "outputs", []),
    "answer without a shape": _set(*CHAIN, "shape", []),
    "value as null": _set(*CHAIN, "values", [None] * 6),
    "role as a number": _set("variants", 0, "role", 1),
    "graph without a path": _set("variants", 0, "graphs", [{"role": "x", "inputs": [], "outputs": []}]),
}
"""What a JSON Schema can say, and what the parser says."""

BEYOND_SCHEMA: dict[str, Change] = {
    "fewer values than the shape holds": _set(*LITERAL, "shape", [1, 4]),
    "a fraction among whole numbers": _set(*LITERAL, "values", [1, 2.5, 3]),
    "a tensor that would fill the memory": _set(*GRID, "shape", [1 << 20, 1 << 20]),
    "a grid that does not divide": _set(*GRID, "grid", [1, 3]),
    "a grid of another rank": _set(*GRID, "grid", [2]),
    "a grid of nothing": _set(*GRID, "grid", [0, 2]),
    "link to a later step": _set(*LINK, "step", 1),
    "link from the first step": _set(*CHAIN, "steps", 0, "inputs", "mask", {"step": 0, "output": "x"}),
    "answer from a step that is not there": _set(*CHAIN, "outputs", 0, "step", 3),
    "fewer values than the answer has": _set(*CHAIN, "values", [1.0] * 5),
    "an answer of nothing": _set(*CHAIN, "shape", [0, 3]),
    "more positions than are kept": _set(*CHAIN, "at", [1, 2, 3, 4]),
    "a target that is not kept": _set(*CHAIN, "targets", [0, 3]),
    "a target too few": _set(*CHAIN, "targets", [0]),
    "a beginning after the end": _set(*CHAIN, "begin", 2),
    "a graph that is not among the files": _set("variants", 0, "graphs", 0, "path", "onnx/other.onnx"),
    "a role twice": _set("variants", 0, "graphs", 0, "role", "encoder_model"),
}
"""What only the parser can say."""


@pytest.mark.parametrize("change", (BY_SCHEMA | BEYOND_SCHEMA).values(), ids=BY_SCHEMA | BEYOND_SCHEMA)
def test_hostile_chains_are_refused(change: Change) -> None:
    with pytest.raises(FormatError):
        parse_manifest(changed(change))


@settings(max_examples=200)
@given(mutated(EXAMPLE))
def test_mutated_chains_raise_nothing_else(data: bytes) -> None:
    try:
        manifest = parse_manifest(data)
    except FormatError as error:
        assert_printable(error.message)
        return
    assert parse_manifest(serialize_manifest(manifest)) == manifest


def test_the_graphs_of_a_variant_are_known_by_their_roles() -> None:
    manifest = examples.manifest_of_graphs()
    (variant,) = manifest.variants
    assert list(variant.graphs) == ["encoder_model", "decoder_model_merged"]
    assert manifest.weights_of(variant) == 374_000_000
    (single, _) = examples.manifest().variants
    assert single.graphs == {"model": "onnx/model.onnx"}


def test_a_release_that_knows_no_chains_reads_the_rest() -> None:
    """What was added is nothing that earlier readers ask for."""
    document = json.loads(EXAMPLE)
    for spot, name in ((document["golden"], "chains"), (document["variants"][0], "graphs")):
        del spot[name]
    del document["variants"][0]["role"]
    manifest = parse_manifest(json.dumps(document).encode())
    assert manifest.golden.chains == ()
    assert manifest.variants[0].graphs == {"model": "onnx/encoder_model.onnx"}


def test_a_coarse_grid_is_unfolded() -> None:
    unfolded = unfold(TensorValue("float32", (2, 4), (1.0, 2.0), (1, 2)))
    assert np.array_equal(unfolded, np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.float32))
    assert unfold(TensorValue("float32", (1, 6, 0, 64), ())).shape == (1, 6, 0, 64)
    assert unfold(TensorValue("bool", (1,), (1,))).tolist() == [True]
