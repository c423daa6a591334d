"""What a build is said to need: by the model's size, the precision of its checkpoint and the variants asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from modeldrop.errors import RecipeError
from modeldrop.export.preflight.checks import CheckedRequest
from modeldrop.export.preflight.resources import ResourceNeeds, check_one_file, makes_beside, needs
from modeldrop.format.recipe import Recipe
from modeldrop.format.variants import VARIANTS

LARGE, SMALL = 2_270_000_000, 91_000_000


def checked(
    weights: int, *variants: str, config: dict[str, Any] | None = None, external_data: str = "auto"
) -> CheckedRequest:
    source = SimpleNamespace(
        weight_bytes=lambda: weights, config=lambda: config or {}, openvino_graph=lambda: None, brought="fp32"
    )
    recipe = Recipe(variants=variants, external_data=external_data)
    return cast("CheckedRequest", SimpleNamespace(request=SimpleNamespace(source=source, recipe=recipe)))


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


@pytest.mark.parametrize(
    ("weights", "variants", "config", "what"),
    [
        (LARGE, ("fp32", "int8"), {}, "fp32 of this model has about 2.3 GB"),
        (LARGE, ("o2", "int8"), {}, "o2 of"),
        (2 * LARGE, ("fp16",), {}, "fp16 of"),
        (LARGE // 2, ("fp32",), {"dtype": "float16"}, "fp32 of"),
    ],
)
def test_what_no_file_of_onnx_holds_is_not_asked_to_be_one(
    weights: int, variants: tuple[str, ...], config: dict[str, Any], what: str
) -> None:
    with pytest.raises(RecipeError, match=f"external_data: {what}") as caught:
        check_one_file(checked(weights, *variants, config=config, external_data="never"))
    assert "auto" in caught.value.hint
    for external_data in ("auto", "always"):
        check_one_file(checked(weights, *variants, config=config, external_data=external_data))


def test_what_one_file_holds_can_be_one() -> None:
    check_one_file(checked(LARGE, "int8", "int4", "fp16", "openvino-fp32", external_data="never"))
    check_one_file(checked(SMALL, "fp32", external_data="never"))
