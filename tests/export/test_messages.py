"""What the build and its workers tell each other arrives as it was sent, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modeldrop.export.inputs import Sample
from modeldrop.export.messages import (
    Checkpoint,
    Comparison,
    ExportRequest,
    GraphDescription,
    MadeVariants,
    SearchRequest,
    WorkerEvent,
    from_json,
    to_json,
)
from modeldrop.export.own_metric import OwnMetric
from modeldrop.format.manifest import SearchStep, Tensor
from modeldrop.format.recipe import Threshold

METRIC = OwnMetric(
    spelled="quality:accuracy", file=Path("/quality.py"), module="", function="accuracy", digest="0" * 64
)
EXPORT = ExportRequest(
    checkpoint=Checkpoint(Path("/source"), "text-classification", opset=18, trust_remote_code=True),
    output=Path("/output"),
    reference=Path("/reference.npz"),
    samples=(Sample(("a", "b"), where="line 1", fields={"query": "a", "passage": "b", "more": [1, {"x": None}]}),),
    golden=(0,),
    openvino=False,
    beside=True,
)
CHECKPOINT = to_json(EXPORT.checkpoint)
SEARCH = SearchRequest(
    output=Path("/output"),
    roles=("model",),
    variants=("int8",),
    keep={"int8": ("*/layer.0/*",)},
    thresholds={"int8": {"cosine_min": Threshold(">=", 0.98), "accuracy": Threshold(">=", 99, relative=True)}},
    external_data="auto",
    comparison=Comparison(
        reference=Path("/reference.npz"),
        task="text-generation",
        problem="",
        texts=True,
        metric=METRIC,
        samples=({"text": "a"},),
    ),
)
GRAPH = GraphDescription(opset=18, ir_version=9, inputs=(Tensor("x", "int64", ("batch", "3")),))
MADE = MadeVariants(
    graphs={"int8": {"model": GRAPH}},
    searches={"int8": (SearchStep("one scale", 1, {"cosine_min": 0.99}, holds=True),)},
)


@pytest.mark.parametrize("message", [EXPORT, SEARCH, MADE, WorkerEvent(done=1, total=2)])
def test_a_message_arrives_as_it_was_sent(message: Any) -> None:
    assert from_json(type(message), json.loads(json.dumps(to_json(message)))) == message


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"checkpoint": CHECKPOINT | {"task": None}},
        {"checkpoint": CHECKPOINT | {"opset": "18"}},
        {"golden": 0},
        {"samples": [{"texts": ["a"]}]},
        {"beside": 1},
    ],
)
def test_what_is_no_such_message_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        from_json(ExportRequest, to_json(EXPORT) | change)


def test_a_key_that_is_missing_is_refused() -> None:
    plain = to_json(EXPORT)
    del plain["checkpoint"]["opset"]
    with pytest.raises(TypeError, match="opset"):
        from_json(ExportRequest, plain)
