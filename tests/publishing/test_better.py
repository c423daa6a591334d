"""Promotion by the recipe's own metric: the channel moves only to what is as good as the version in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeldrop.commands.publish import _better
from modeldrop.config import parse_config
from modeldrop.errors import ModeldropError, RecipeError, UsageError, UserTestError
from modeldrop.model_settings import BetterThanCurrent, read_models
from modeldrop.publishing.plan import plan
from modeldrop.publishing.publish import publish
from modeldrop.publishing.request import PublishRequest, merged_recipe
from modeldrop.registry.versions import read_channel
from modeldrop.storage.write import open_store
from tests.export import generic_graphs as graphs

METRIC = """
def accuracy(original, variant, samples):
    right = [answer["label"][0] == int(sample["label"]) for answer, sample in zip(variant, samples, strict=True)]
    return {"accuracy": sum(right) / len(right)}
"""


def request(folder: Path, noise: float, **more: object) -> PublishRequest:
    """A model that is the worse the more noise is in it, on rows that the one without any is right about."""
    source = graphs.scorer(folder / f"{noise}" / "net.onnx", noise=noise)
    x = np.random.default_rng(7).standard_normal((60, 4)).astype(np.float32)
    rows = ["a,b,c,d,label", *(",".join(map(str, [*row, (row @ graphs.weights()).argmax()])) for row in x)]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    (folder / "quality.py").write_text(METRIC)
    recipe = {"inputs": str(folder / "rows.csv"), "metric": str(folder / "quality:accuracy")} | more
    return PublishRequest(
        source=str(source),
        model="credit",
        registries=(str(folder / "models"),),
        recipe=merged_recipe(None, recipe),
        better=BetterThanCurrent("accuracy"),
    )


@pytest.mark.slow
def test_the_channel_moves_only_to_what_is_as_good(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "models"))
    publish(plan(request(tmp_path, 0.5)), quiet=True)
    with pytest.raises(UserTestError, match=r"accuracy is 0\.\d+, of the version in use 0\.\d+; required is at least"):
        publish(plan(request(tmp_path, 2.0)), quiet=True)
    channel = read_channel(store, "credit", "current")[0]
    assert channel is not None
    assert channel.version == 1
    publish(plan(request(tmp_path, 0.0)), quiet=True)
    channel = read_channel(store, "credit", "current")[0]
    assert channel is not None
    assert channel.version == 3
    assert channel.present.why.startswith("accuracy is 1, of the version in use 0.")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"metric": None}, "has no metric"),
        ({"inputs": None}, "has no inputs"),
    ],
)
def test_a_rule_that_could_never_be_asked_is_refused(more: dict[str, object], says: str, tmp_path: Path) -> None:
    wanted = request(tmp_path, 0.0)
    recipe = wanted.recipe._replace(**more)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=says):
        plan(replace(wanted, recipe=recipe))


def test_the_rule_is_read_from_the_file_and_from_the_command_line() -> None:
    text = '[models.credit]\nsource = "a/b"\n[models.credit.promote]\nmetric = "accuracy"\nbetter_than_current = 0.01\n'
    assert read_models(parse_config(text))["credit"].better == BetterThanCurrent("accuracy", 0.01)
    assert _better("accuracy") == BetterThanCurrent("accuracy")
    assert _better("f1=0.5") == BetterThanCurrent("f1", 0.5)


@pytest.mark.parametrize("text", ["", "accuracy=much", "accuracy=inf", "no figure"])
def test_a_rule_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no figure with a margin"):
        _better(text)


def test_a_table_without_a_metric_is_refused() -> None:
    with pytest.raises(ModeldropError, match="promote"):
        read_models(parse_config('[models.c]\nsource = "a/b"\n[models.c.promote]\nbetter_than_current = 1.0\n'))
