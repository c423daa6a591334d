"""Refuse inputs that the model does not take, and thresholds that cannot be measured on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from modeldrop.errors import RecipeError
from modeldrop.export.inputs import PCM, Sample, sampling_rate
from modeldrop.export.models.family import Family
from modeldrop.format.recipe import Recipe
from modeldrop.format.tasks import TASKS

_ONE = {"text": "a text", "image": "a picture", "audio": "a recording"}
_CALLED = {"text": "texts", "image": "pictures", "audio": "recordings"}
_WRITTEN = {
    "text": 'a file of texts, one per line, or lines such as {"text": …}',
    "image": 'a folder of pictures, or lines such as {"image": "a.png"}',
    "audio": 'a folder of recordings, or lines such as {"audio": "a.wav"}',
}
# The fewest that ``inference.metrics`` measures these on.
_NEIGHBOURS_NEED, _TOP10_NEEDS, _TOP5_NEEDS = 11, 11, 6
_USUAL_RATE = 16_000
_PREPROCESSOR = "preprocessor_config.json"


def check_samples(samples: Sequence[Sample], recipe: Recipe, task: str, family: Family) -> None:
    """Refuse inputs that a model of this family does not take, and thresholds that cannot be measured on them.

    Raises:
        RecipeError: names file and line, or the threshold.
    """
    for sample in samples:
        if sample.kind != family.input_kind:
            raise RecipeError(
                f"inputs: {sample.where} is {_ONE[sample.kind]}; models for {task} take {_CALLED[family.input_kind]}.",
                f"Name {_WRITTEN[family.input_kind]}.",
            )
        least, most = TASKS[task].texts
        if len(sample.texts) > most:
            what = "a pair" if sample.kind == "text" else "texts beside what it names"
            raise RecipeError(
                f"inputs: {sample.where} has {what}, which a model for {task} does not read.", "Leave them out."
            )
        if sample.kind == "text" and len(sample.texts) < least:
            raise RecipeError(
                f"inputs: {sample.where} is one text; a model for {task} reads a question and a passage.",
                'Write {"query": …, "passage": …}, or both with a tab between them.',
            )
    for variant, limits in recipe.thresholds.items():
        for metric in limits:
            if lacking := _lacking(metric, samples):
                raise RecipeError(
                    f"thresholds.{variant}.{metric} cannot be measured on these inputs: it needs {lacking}.",
                    "Add inputs, or leave the threshold out.",
                )


def check_rates(samples: Sequence[Sample], source: Path) -> None:
    """Refuse recordings of another sampling rate than the model's; nothing here resamples.

    Raises:
        RecipeError: names the recording, its rate, and the rate that is wanted.
    """
    try:
        told = json.loads((source / _PREPROCESSOR).read_text("utf-8")).get("sampling_rate")
    except (OSError, ValueError, AttributeError):
        told = None  # loading it reports the error
    wanted = told if isinstance(told, int) else _USUAL_RATE
    for sample in samples:
        if sample.audio and (rate := sampling_rate(Path(sample.audio))) != wanted:
            raise RecipeError(
                f"inputs: {sample.where} has {rate} samples per second; this model takes {wanted}.",
                PCM.replace(str(_USUAL_RATE), str(wanted)),
            )


def _lacking(metric: str, samples: Sequence[Sample]) -> str:
    """What the inputs lack for a metric, or ""."""
    passages = Counter(sample.texts[0] for sample in samples if sample.texts)
    # Where every question has one passage only, all are put in one order.
    most = max(passages.values(), default=0)
    together = len(samples) if most == 1 else most
    if metric == "neighbours" and len(samples) < _NEIGHBOURS_NEED:
        return f"{_NEIGHBOURS_NEED} inputs"
    if metric == "top10" and together < _TOP10_NEEDS:
        return f"a question with {_TOP10_NEEDS} passages"
    if metric == "kendall_tau" and together < 2:
        return "two inputs"
    if metric == "top5" and any(0 < len(sample.texts) < _TOP5_NEEDS for sample in samples if sample.image):
        return f"{_TOP5_NEEDS} texts beside every picture"
    return ""
