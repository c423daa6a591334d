"""Promotion by the recipe's own metric: the channel moves only to what is as good as the version in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeldrop.commands.publish import _better
from modeldrop.config import parse_config
from modeldrop.errors import ModeldropError, RecipeError, UsageError, UserTestError
from modeldrop.export.messages import MeasureAnswer
from modeldrop.export.workers import measure
from modeldrop.model_settings import BetterThanCurrent, read_models
from modeldrop.publishing import better
from modeldrop.publishing.plan import plan
from modeldrop.publishing.publish import publish
from modeldrop.publishing.request import PublishRequest, merged_recipe
from modeldrop.registry.versions import read_channel
from modeldrop.storage.write import open_store
from tests.export import generic_graphs as graphs
from tests.format import examples

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
    ("mine", "its", "margin", "less", "says"),
    [
        (0.3, 0.2, 0.1, False, ""),  # as people count
        (0.29, 0.2, 0.1, False, "accuracy is 0.29, of the version in use 0.2; required is 0.1 better than that"),
        (0.2, 0.2, 0.0, False, ""),
        (0.19, 0.2, 0.0, False, "required is at least that"),
        (0.19, 0.2, -0.01, False, ""),
        (0.18, 0.2, -0.01, False, "required is at most 0.01 worse than that"),
        (0.1, 0.2, 0.1, True, ""),
        (0.3, 0.2, 0.0, True, "required is at least that"),
    ],
)
def test_what_is_better(
    mine: float, its: float, margin: float, *, less: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = MeasureAnswer(new={"accuracy": mine}, current={"accuracy": its})
    monkeypatch.setattr(better, "run_worker", lambda *_: answer)
    thresholds = {"thresholds": {"fp32": {"accuracy": "<= 9"}}} if less else {}
    asked = plan(request(tmp_path, 0.0, **thresholds)).build_request
    found = better.compare_with_current(BetterThanCurrent("accuracy", margin), asked, tmp_path, tmp_path, tmp_path)
    assert found[0] == (not says)
    assert says in found[1]


def test_inputs_that_one_of_the_versions_does_not_take_are_told_whose_they_are(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("colour\nred\n")
    with pytest.raises(RecipeError, match=r"has no input_ids: .* \(asked of the version in use\)"):
        measure._answers(tmp_path, examples.manifest().variants[0], tmp_path / "rows.csv", "the version in use")


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
