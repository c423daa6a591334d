from __future__ import annotations

import contextlib
import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError, RecipeError
from modeldrop.format.json_fields import Fields
from modeldrop.format.recipe import METRICS, RECORDED_RECIPE, Recipe, Threshold, build_key, parse_recipe
from modeldrop.format.variants import DEFAULT_VARIANTS, VARIANTS
from tests.format.hostile import RECIPES_BY_SCHEMA
from tests.format.strategies import any_recipes, json_values, metric_values, recipes, texts

SOURCE = "hf:org/name@0123"
KEY = build_key(SOURCE, Recipe(), {}, 1)


def _recorded(value: object) -> Recipe:
    return RECORDED_RECIPE.read(Fields(value, "", "recipe"))


@given(recipes)
def test_round_trip(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_json()) == recipe
    assert _recorded(RECORDED_RECIPE.write(recipe)) == recipe


@given(any_recipes)
def test_a_record_of_another_release_round_trips(recipe: Recipe) -> None:
    assert _recorded(RECORDED_RECIPE.write(recipe)) == recipe


@given(
    json_values()
    | st.dictionaries(
        st.sampled_from(["task", "variants", "thresholds", "inputs", "texts", "metric", "max_length", "allow_pickle"])
        | texts(5),
        json_values() | st.dictionaries(st.sampled_from(list(VARIANTS)), metric_values),
        max_size=4,
    )
)
def test_arbitrary_values_raise_nothing_else(value: Any) -> None:
    with contextlib.suppress(RecipeError):
        parse_recipe(value)
    with contextlib.suppress(FormatError):
        _recorded(value)


@pytest.mark.parametrize("value", RECIPES_BY_SCHEMA.values(), ids=RECIPES_BY_SCHEMA)
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
    "opset": {"opset": 17},
    "external_data": {"external_data": "never"},
    "truncate_dim": {"truncate_dim": 128},
    "allow_pickle": {"allow_pickle": True},
    "calibration": {"calibration": "texts.txt"},
    "inputs": {"inputs": "texts.txt"},
    "own metric": {"metric": "quality:accuracy"},
    "options": {"options": {"int8": {"auto": True}}},
    "trust_remote_code": {"trust_remote_code": True},
    "trust_code": {"trust_code": True},
    "state_dict": {"state_dict": "weights.safetensors"},
    "dynamic_shapes": {"dynamic_shapes": {"x": {"0": "batch"}}},
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
    here = build_key(SOURCE, Recipe(inputs="a.txt"), {"inputs": "00"}, 1)
    assert build_key(SOURCE, Recipe(inputs="b/c.txt"), {"inputs": "00"}, 1) == here
    assert build_key(SOURCE, Recipe(inputs="a.txt"), {"inputs": "01"}, 1) != here
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


def test_what_was_built_with_texts_has_its_key_still() -> None:
    recipe = parse_recipe({"texts": "a.txt"})
    assert recipe == Recipe(inputs="a.txt")
    key = build_key(SOURCE, recipe, {"inputs": "00"}, 1)
    assert key == "49e5c82282e32eb38e8f0a20f1fe54fdc2da1de2c8e3b38dbfeb456d3f67afbb"


def test_a_threshold_of_an_own_metric_is_a_number_or_a_share() -> None:
    required = {"accuracy": ">=99%", "loss": "<= 1.5e-3", "top1": 0.9}
    recipe = parse_recipe({"metric": "quality:figures", "thresholds": {"int8": required}})
    assert recipe.thresholds == {"int8": {"top1": 0.9}}
    accuracy, loss = recipe.own_thresholds["int8"].values()
    assert (accuracy, str(accuracy), accuracy.value(0.5)) == (Threshold(">=", 99.0, relative=True), ">= 99%", 0.495)
    assert (loss, str(loss), loss.value(0.5)) == (Threshold("<=", 0.0015), "<= 0.0015", 0.0015)
    assert [accuracy.holds(value, 0.5) for value in (0.495, 0.494)] == [True, False]
    assert [loss.holds(value, 0.5) for value in (0.0015, 0.0016)] == [True, False]
    assert [recipe.side(name) for name in ("accuracy", "loss", "kl", "f1")] == [">=", "<=", "<=", None]


def test_a_manifest_has_numbers_alone_in_what_earlier_releases_read() -> None:
    recipe = parse_recipe(
        {"metric": "q:f", "thresholds": {"int8": {"f": "<= 101%", "top1": 0.9}, "fp32": {"f": "<= 1"}}}
    )
    record = RECORDED_RECIPE.write(recipe)
    assert record["thresholds"] == {"int8": {"top1": 0.9}}
    assert record["own_thresholds"] == {"int8": {"f": "<= 101%"}, "fp32": {"f": "<= 1"}}


def test_a_manifest_does_not_say_where_files_lay() -> None:
    recipe = Recipe(
        inputs="/home/dana/q.jsonl", metric="sub/quality.py:accuracy", calibration="../c.npz", tokenizer="./t"
    )
    told = Recipe(inputs="q.jsonl", metric="quality.py:accuracy", calibration="c.npz", tokenizer="t")
    assert recipe.without_folders() == told
    assert Recipe(tokenizer="org/name").without_folders() == Recipe(tokenizer="org/name")


def test_one_metric_has_one_good_side() -> None:
    required = {"int8": {"f": ">= 1"}, "int4": {"f": "<= 1"}}
    with pytest.raises(RecipeError, match=r"thresholds.int4: f is <= here and >= above"):
        parse_recipe({"metric": "q:f", "thresholds": required})


@given(recipes, recipes)
def test_different_recipes_have_different_keys(one: Recipe, two: Recipe) -> None:
    same = build_key(SOURCE, one, {}, 1) == build_key(SOURCE, two, {}, 1)
    assert same == (one.to_json() == two.to_json())
