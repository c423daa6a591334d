"""What a build is said to need: by the model's size, the precision of its checkpoint and the variants asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from modeldrop.export.preflight.checks import CheckedRequest
from modeldrop.export.preflight.resources import ResourceNeeds, makes_beside, needs
from modeldrop.format.recipe import Recipe
from modeldrop.format.variants import VARIANTS

LARGE, SMALL = 2_270_000_000, 91_000_000


def checked(weights: int, *variants: str, config: dict[str, Any] | None = None) -> CheckedRequest:
    source = SimpleNamespace(
        weight_bytes=lambda: weights, config=lambda: config or {}, openvino_graph=lambda: None, brought="fp32"
    )
    return cast(
        "CheckedRequest", SimpleNamespace(request=SimpleNamespace(source=source, recipe=Recipe(variants=variants)))
    )


def need(weights: int, *variants: str, config: dict[str, Any] | None = None) -> ResourceNeeds:
    return needs(checked(weights, *variants, config=config))


@pytest.mark.parametrize("kind", sorted(set(VARIANTS) - {"fp32"}))
def test_every_kind_has_its_share(kind: str) -> None:
    alone, more = need(LARGE, "fp32"), need(LARGE, "fp32", kind)
    assert more.memory >= alone.memory
    assert need(LARGE, "fp32", kind, "fp16", "int8").disk > alone.disk


@pytest.mark.parametrize("variants", [("fp32",), ("fp32", "fp16", "int8", "int8-accurate", "openvino-int8")])
def test_a_large_model_needs_no_more_than_four_times_its_weights(variants: tuple[str, ...]) -> None:
    assert 2 * LARGE < need(LARGE, *variants).memory <= 4 * LARGE


def test_what_is_made_while_the_original_answers_needs_the_memory_of_both() -> None:
    assert makes_beside(checked(SMALL, "fp32", "int8"))
    assert not makes_beside(checked(LARGE, "fp32", "int8"))
    assert need(SMALL, "fp32", "int8").memory > need(SMALL, "fp32").memory
    assert need(LARGE, "fp32", "int8").memory == need(LARGE, "fp32").memory


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_a_checkpoint_in_half_precision_is_built_as_one_of_twice_its_bytes(name: str) -> None:
    half, full = need(LARGE // 2, "fp32", "int8", config={name: "bfloat16"}), need(LARGE, "fp32", "int8")
    assert half.memory == full.memory
    assert half.disk == full.disk - LARGE // 2
