from __future__ import annotations

import contextlib
import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError, RecipeError
from modeldrop.format.recipe import DEFAULT_VARIANTS, METRICS, VARIANTS, Recipe, build_key, parse_recipe
from tests.format.strategies import any_recipes, json_values, metric_values, recipes, texts

SOURCE = "hf:org/name@0123"
KEY = build_key(SOURCE, Recipe(), {}, 1)


@given(recipes)
def test_round_trip(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_json()) == recipe
    assert parse_recipe(recipe.to_json(), strict=False) == recipe


@given(any_recipes)
def test_a_record_of_another_release_round_trips(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_json(), strict=False) == recipe


@given(
    json_values()
    | st.dictionaries(
        st.sampled_from(["task", "variants", "thresholds", "texts", "max_length", "allow_pickle"]) | texts(5),
        json_values() | st.dictionaries(st.sampled_from(VARIANTS), metric_values),
        max_size=4,
    )
)
def test_arbitrary_values_raise_nothing_else(value: Any) -> None:
    with contextlib.suppress(RecipeError):
        parse_recipe(value)
    with contextlib.suppress(FormatError):
        parse_recipe(value, strict=False)


REFUSED: dict[str, dict[str, Any]] = {
    "unknown key": {"variant": ["int8"]},
    "unknown task": {"task": "telepathy"},
    "unknown variant": {"variants": ["int3"]},
    "no variant": {"variants": []},
    "variant twice": {"variants": ["int8", "int8"]},
    "variants as text": {"variants": "int8"},
    "threshold of an unknown variant": {"thresholds": {"int3": {}}},
    "unknown metric": {"thresholds": {"int8": {"cosine": 0.9}}},
    "threshold as text": {"thresholds": {"int8": {"top1": "0.9"}}},
    "threshold as boolean": {"thresholds": {"int8": {"top1": True}}},
    "max_length too small": {"max_length": 7},
    "max_length too large": {"max_length": (1 << 20) + 1},
    "max_length as boolean": {"max_length": True},
    "boolean as number": {"allow_pickle": 1},
    "boolean as text": {"trust_remote_code": "false"},
    "NUL in texts": {"texts": "a\0"},
    "options of an unknown variant": {"options": {"int3": {}}},
    "unknown option": {"options": {"int8": {"smaller": True}}},
    "size without a unit": {"options": {"int8": {"max_size": "25"}}},
    "size as number": {"options": {"int8": {"max_size": 25}}},
    "speed as text": {"options": {"int8": {"must_be_faster": "yes"}}},
    "speed below zero": {"options": {"int8": {"must_be_faster": -1}}},
    "layers as text": {"options": {"int8": {"keep_layers": "*"}}},
    "search for what is made in one way": {"options": {"int4": {"auto": True}}},
    "options of fp32": {"options": {"fp32": {"max_size": "27%"}}},
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_refused(value: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_thresholds_of_toml_are_finite(value: float) -> None:
    with pytest.raises(RecipeError, match=r"thresholds\.int8\.top1"):
        parse_recipe({"thresholds": {"int8": {"top1": value}}})


def test_what_is_no_mapping_is_said_once() -> None:
    with pytest.raises(RecipeError, match=r"^recipe: must be an object$"):
        parse_recipe([])


def test_thresholds_fall_back_to_defaults() -> None:
    recipe = parse_recipe({"thresholds": {"int8": {"cosine_min": 0.5}}})
    assert recipe.threshold("int8", "cosine_min") == 0.5
    assert recipe.threshold("int8", "cosine_mean") == Recipe().threshold("int8", "cosine_mean")
    assert recipe.threshold("int8", "max_abs") is None
    assert recipe.threshold("a-variant-of-later", "top1") is None


@pytest.mark.parametrize(("given", "kept"), [(True, 1.0), (False, 0.0), (2, 2.0), (0.5, 0.5)])
def test_faster_is_a_switch_or_a_factor(given: float, kept: float) -> None:
    assert parse_recipe({"options": {"int8": {"must_be_faster": given}}}).options["int8"].must_be_faster == kept


@pytest.mark.parametrize(("given", "most"), [("", math.inf), ("27%", 270), ("25 MB", 25e6), ("1.5kB", 1500)])
def test_a_size_is_a_share_of_fp32_or_bytes(given: str, most: float) -> None:
    options = parse_recipe({"options": {"int8": {"max_size": given}}} if given else {"options": {"int8": {}}})
    assert options.options["int8"].most_bytes(1000) == most


CHANGES: dict[str, dict[str, Any]] = {
    "task": {"task": "feature-extraction"},
    "variants": {"variants": ["int8"]},
    "threshold": {"thresholds": {"int8": {"top1": 0.5}}},
    "max_length": {"max_length": 128},
    "allow_pickle": {"allow_pickle": True},
    "calibration": {"calibration": "texts.txt"},
    "options": {"options": {"int8": {"auto": True}}},
    "trust_remote_code": {"trust_remote_code": True},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_key_changes_with_the_recipe(change: dict[str, Any]) -> None:
    assert build_key(SOURCE, parse_recipe(change), {}, 1) != KEY


def test_the_key_changes_with_each_threshold() -> None:
    changed = [parse_recipe({"thresholds": {"int8": {metric: 0.5}}}) for metric in METRICS]
    assert len({build_key(SOURCE, recipe, {}, 1) for recipe in changed} | {KEY}) == len(METRICS) + 1


def test_the_key_changes_with_the_source() -> None:
    assert build_key("hf:org/name@0124", Recipe(), {}, 1) != KEY


def test_the_key_changes_with_the_epoch() -> None:
    assert build_key(SOURCE, Recipe(), {}, 2) != KEY


def test_the_key_changes_with_what_is_in_an_input_not_with_its_path() -> None:
    here = build_key(SOURCE, Recipe(texts="a.txt"), {"texts": "00"}, 1)
    assert build_key(SOURCE, Recipe(texts="b/c.txt"), {"texts": "00"}, 1) == here
    assert build_key(SOURCE, Recipe(texts="a.txt"), {"texts": "01"}, 1) != here
    assert here != KEY


def test_the_key_does_not_change_with_the_order_of_variants() -> None:
    keys = {
        build_key(SOURCE, parse_recipe({"variants": list(order)}), {}, 1) for order in permutations(DEFAULT_VARIANTS)
    }
    assert keys == {KEY}


def test_the_key_does_not_change_with_the_order_of_keys_or_the_type_of_a_number() -> None:
    one = parse_recipe({"max_length": 64, "thresholds": {"int8": {"top1": 1, "max_abs": 2.0}}})
    two = parse_recipe({"thresholds": {"int8": {"max_abs": 2, "top1": 1.0}}, "max_length": 64})
    assert build_key(SOURCE, one, {}, 1) == build_key(SOURCE, two, {}, 1)


def test_the_key_is_kept_from_release_to_release() -> None:
    assert KEY == "16b48cb690212a9dd9620c148d08bfe5b80b713f91905a9729ff204a3162cf5c"


@given(recipes, recipes)
def test_different_recipes_have_different_keys(one: Recipe, two: Recipe) -> None:
    same = build_key(SOURCE, one, {}, 1) == build_key(SOURCE, two, {}, 1)
    assert same == (one.to_json() == two.to_json())
