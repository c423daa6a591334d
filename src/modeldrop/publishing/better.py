"""Promotion by a metric: is the new version better than the one in use, by the recipe's own metric?

Both are asked the recipe's inputs, here and now, and the metric is called for both: what it gave when the one in use
was built was measured on other inputs.
"""

from __future__ import annotations

from pathlib import Path

from modeldrop.errors import RecipeError
from modeldrop.export.messages import MeasureAnswer, MeasureRequest
from modeldrop.export.request import BuildRequest
from modeldrop.export.worker_process import run_worker
from modeldrop.format.tasks import GENERIC
from modeldrop.model_settings import BetterThanCurrent

_DIGITS = 9
"""Figures of own metrics are kept with ten digits."""


def check_rule(rule: BetterThanCurrent, request: BuildRequest) -> None:
    """Refuse a rule that could never be asked.

    Raises:
        RecipeError: the recipe has no metric or no inputs of its own, or its model is of another task.
    """
    lacking = [name for name in ("metric", "inputs") if getattr(request.recipe, name) is None]
    if lacking:
        raise RecipeError(
            f"promote.metric: the recipe has no {lacking[0]}, so that nothing could say what {rule.metric} is.",
            'Name both: metric = "quality:accuracy", and inputs = "rows.csv" with what it reads.',
        )
    if not request.source.framework:
        raise RecipeError(
            f"promote.metric compares models for the task {GENERIC}; {request.source.spec} is none.",
            "For others the test decides (--test): it gets both versions' folders.",
        )


def compare_with_current(
    rule: BetterThanCurrent, request: BuildRequest, new: Path, current: Path, scratch: Path
) -> tuple[bool, str]:
    """Whether the new version is as much better as the rule wants, and the figures in words.

    Args:
        rule: the metric, and by how much.
        request: of the new version, with the metric and its inputs.
        new: the folder of the new version, complete.
        current: that of the one in use.
        scratch: a folder for the worker's files.

    Raises:
        RecipeError: the metric fails, or gives no such figure; or the inputs do not fit one of the two.
        ModeldropError: see ``worker_process``.
    """
    assert request.metric is not None  # noqa: S101  see ``check_rule``
    assert request.recipe.inputs is not None  # noqa: S101
    asked = MeasureRequest(new, current, Path(request.recipe.inputs).resolve(), request.metric)
    answer = run_worker("measure", asked, MeasureAnswer, scratch, lambda _: None)
    if rule.metric not in answer.new:
        raise RecipeError(
            f"promote.metric: {request.metric.spelled} gives {', '.join(answer.new)}, and no {rule.metric}.",
            "Name one of these.",
        )
    mine, its = answer.new[rule.metric], answer.current[rule.metric]
    lower = request.recipe.side(rule.metric) == "<="
    gain = round(its - mine if lower else mine - its, _DIGITS)  # 0.3 is 0.1 more than 0.2, whatever floats say
    words = f"{rule.metric} is {mine:.6g}, of the version in use {its:.6g}"
    if gain >= rule.margin:
        return True, words
    margin = abs(rule.margin)
    required = (
        "at least" if not margin else f"{margin:g} better than" if rule.margin > 0 else f"at most {margin:g} worse than"
    )
    return False, f"{words}; required is {required} that"
