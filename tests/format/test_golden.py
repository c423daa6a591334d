"""Manifests of models with several graphs, proven on chains of runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings

from modeldrop.errors import FormatError
from modeldrop.format.golden import TensorValue
from modeldrop.format.manifest import parse_manifest, serialize_manifest
from modeldrop.inference.runs import from_example, unfold
from tests.format import examples
from tests.format.hostile import (
    CHAIN,
    CHAINS_BY_SCHEMA,
    GRID,
    LINK,
    LITERAL,
    MANIFEST_OF_GRAPHS,
    Change,
    assert_printable,
    changed,
    setting,
)
from tests.format.strategies import mutated
from tests.helpers.rounds import rounds

BEYOND_SCHEMA: dict[str, Change] = {
    "fewer values than the shape holds": setting(*LITERAL, "shape", [1, 4]),
    "a fraction among whole numbers": setting(*LITERAL, "values", [1, 2.5, 3]),
    "a tensor that would fill the memory": setting(*GRID, "shape", [1 << 20, 1 << 20]),
    "a grid that does not divide": setting(*GRID, "grid", [1, 3]),
    "a grid of another rank": setting(*GRID, "grid", [2]),
    "a grid of nothing": setting(*GRID, "grid", [0, 2]),
    "link to a later step": setting(*LINK, "step", 1),
    "link from the first step": setting(*CHAIN, "steps", 0, "inputs", "mask", {"step": 0, "output": "x"}),
    "answer from a step that is not there": setting(*CHAIN, "outputs", 0, "step", 3),
    "fewer values than the answer has": setting(*CHAIN, "values", [1.0] * 5),
    "an answer of nothing": setting(*CHAIN, "shape", [0, 3]),
    "more positions than are kept": setting(*CHAIN, "at", [1, 2, 3, 4]),
    "a target that is not kept": setting(*CHAIN, "targets", [0, 3]),
    "a target too few": setting(*CHAIN, "targets", [0]),
    "a beginning after the end": setting(*CHAIN, "begin", 2),
    "more rows than are kept": setting(*CHAIN, "rows", [0, 1, 2]),
    "a graph that is not among the files": setting("variants", 0, "graphs", 0, "path", "onnx/other.onnx"),
    "a role twice": setting("variants", 0, "graphs", 0, "role", "encoder_model"),
}
"""What only the parser can say."""


@pytest.mark.parametrize("change", (CHAINS_BY_SCHEMA | BEYOND_SCHEMA).values(), ids=CHAINS_BY_SCHEMA | BEYOND_SCHEMA)
def test_hostile_chains_are_refused(change: Change) -> None:
    with pytest.raises(FormatError):
        parse_manifest(changed(MANIFEST_OF_GRAPHS, change))


@settings(max_examples=rounds(40, 3000))
@given(mutated(MANIFEST_OF_GRAPHS))
def test_mutated_chains_raise_nothing_else(data: bytes) -> None:
    try:
        manifest = parse_manifest(data)
    except FormatError as error:
        assert_printable(error.message)
        return
    assert parse_manifest(serialize_manifest(manifest)) == manifest


def test_the_rows_that_are_kept_are_read_and_written() -> None:
    manifest = parse_manifest(changed(MANIFEST_OF_GRAPHS, setting(*CHAIN, "rows", [4, 7])))
    assert manifest.golden.chains[0].rows == (4, 7)
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
    document = json.loads(MANIFEST_OF_GRAPHS)
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


STEP = ("golden", "examples", 0, "steps", 0)
ANY_BEYOND_SCHEMA: dict[str, Change] = {
    "fewer texts than the shape holds": setting(*STEP, "inputs", "names", "texts", ["Ada"]),
    "a fraction among whole numbers": setting(*STEP, "inputs", "rate", "values", [0.5]),
    "an array that would fill the memory": setting(*STEP, "outputs", "y", "shape", [1 << 30, 1 << 30]),
    "more than every other element": setting(*STEP, "outputs", "y", "values", [0.5, 0.25, 1.0]),
    "a grid that does not divide": setting("golden", "examples", 0, "steps", 1, "inputs", "x", "grid", [1, 3]),
    "no steps": setting("golden", "examples", 0, "steps", []),
}


@pytest.mark.parametrize("change", ANY_BEYOND_SCHEMA.values(), ids=ANY_BEYOND_SCHEMA)
def test_refuses_known_inputs_of_any_type_that_cannot_be_run(change: Change) -> None:
    document = serialize_manifest(examples.manifest_of_any_graphs())
    with pytest.raises(FormatError, match="examples"):
        parse_manifest(changed(document, change))


def test_known_inputs_of_any_type_come_back_as_they_were() -> None:
    (known,) = examples.manifest_of_any_graphs().golden.examples
    run = from_example(known)
    assert run.text == "row 1 of rows.csv"
    names, rate = (run.steps[0].inputs[name] for name in ("names", "rate"))
    assert (names.tolist(), rate.tolist(), rate.shape) == (["Ada", ""], 1 << 62, ())  # type: ignore[union-attr]
    assert run.steps[1].inputs["x"].tolist() == [[7, 7, 9, 9]]  # type: ignore[union-attr]
    assert run.every == {"detect/y": 2048}
    answer = run.answer.named
    assert answer["detect/y"].tolist() == [0.5, 0.25]
    assert np.isnan(answer["detect/scores"][0, 0])
    assert answer["read/label"].dtype == np.int64
