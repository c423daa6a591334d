"""An own metric: found without running it, and in words where it fails."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from modeldrop.errors import FidelityError, RecipeError
from modeldrop.export.messages import Measurement
from modeldrop.export.own_metric import find_metric
from modeldrop.export.thresholds import judge
from modeldrop.export.workers.own_metric import OwnMeasure
from modeldrop.format.recipe import Recipe, parse_recipe

ANSWERS = [np.array([0.0, 1.0]), np.array([2.0, 1.0])]
SAMPLES = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]


def write(folder: Path, code: str, name: str = "quality.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(code))
    return path


def measure(folder: Path, code: str, **more: Any) -> OwnMeasure:
    write(folder, code)
    return OwnMeasure(find_metric(f"{folder}/quality:metric"), SAMPLES, ANSWERS, **more)


def test_a_metric_is_a_file_beside_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, "def metric(a, b, c): ...")
    inner = write(tmp_path, "from math import fsum as metric", "deep/er/quality.py")
    found = find_metric(f"{tmp_path}/quality:metric")
    assert (found.file, found.module, found.function) == (path, "", "metric")
    assert find_metric(f"{tmp_path}/quality.py:metric").digest == found.digest
    assert find_metric(f"{tmp_path}/deep.er.quality:metric").file == inner
    assert find_metric(f"{tmp_path}/deep/er/quality.py:metric").file == inner


def test_or_an_installed_module_which_is_not_imported_to_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "raise SystemError('imported')", "acme_quality/__init__.py")
    path = write(tmp_path, "def metric(a, b, c): ...", "acme_quality/of_text.py")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_metric("/elsewhere/acme_quality.of_text:metric")
    assert (found.file, found.module) == (path, "acme_quality.of_text")


@pytest.mark.parametrize(
    ("spelled", "code", "message"),
    [
        ("absent:metric", "", "neither a file .*absent.py nor an installed module absent"),
        ("quality:metric", "def accuracy(a, b, c): ...", "quality.py has no function metric; it defines accuracy"),
        ("quality:metric", "def metric(:", r"quality.py is not Python \(line 1\)"),
        ("quality:metric", "x = '\0'", "quality.py is not Python"),
        ("os.path.absent:metric", "", "nor an installed module os.path.absent"),
        ("sys:exit", "", "nor an installed module sys"),
        ("..:metric", "", r"'\.\.' is no module, nor a file"),
        ("my-quality:metric", "", "'my-quality' is no module, nor a file"),
        ("x" * 300 + ":metric", "", "nor an installed module x"),
    ],
)
def test_what_is_no_metric_is_refused_before_anything_is_built(
    spelled: str, code: str, message: str, tmp_path: Path
) -> None:
    write(tmp_path, code)
    with pytest.raises(RecipeError, match=f"metric: .*{message}"):
        find_metric(f"{tmp_path}/{spelled}")


def test_it_gets_the_answers_and_the_lines(tmp_path: Path) -> None:
    own = measure(
        tmp_path,
        """
        import numpy as np

        def metric(original, variant, samples):
            right = [answer.argmax() == sample["label"] for answer, sample in zip(variant, samples)]
            far = max(abs(a - b).max() for a, b in zip(original, variant))
            variant[0][:] = np.nan  # of its own copy
            return {"accuracy": np.mean(right), "far": far}
        """,
    )
    assert own.original == {"accuracy": 1.0, "far": 0.0}
    assert own.of([ANSWERS[1], ANSWERS[1]], "int8") == {"accuracy": 0.5, "far": 2.0}
    assert all(np.isfinite(one).all() for one in ANSWERS)


def test_the_one_that_the_page_shows_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "variants.md").read_text("utf-8")
    ((recipe, code),) = re.findall(
        r"```toml\n(inputs = .*?)```\n\n`quality.py`:\n\n```python\n(.*?)```", page, re.DOTALL
    )
    write(tmp_path, code)
    found = find_metric(f"{tmp_path}/{parse_recipe(tomllib.loads(recipe)).metric}")
    samples = [{"text": "Never again.", "label": "negative"}, {"text": "So good!", "label": "negative"}]
    assert OwnMeasure(found, samples, ANSWERS).original == {"accuracy": 0.5}


def test_one_number_is_called_as_the_function(tmp_path: Path) -> None:
    assert measure(tmp_path, "def metric(a, b, c): return 0.1 + 0.2").original == {"metric": 0.3}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import nowhere\ndef metric(a, b, c): ...",
            "cannot be loaded: ModuleNotFoundError: No module named 'now",
        ),
        ("import sys; sys.exit(3)\ndef metric(a, b, c): ...", "cannot be loaded: SystemExit: 3"),
        ("def metric(a, b): return 1", "cannot be loaded: TypeError: too many positional arguments"),
        ("metric = 3", "cannot be loaded: TypeError: 3 is not a callable object"),
        ("def metric(a, b, c): return 1 / 0", "failed on the answers of the original: ZeroDivisionError: division by"),
        (
            "def metric(a, b, c): return float('nan')",
            "gave nan as metric of the original, which is not a finite",
        ),
        ("def metric(a, b, c): return None", "gave None as metric of the original"),
        ("def metric(a, b, c): return '0.9'", "gave '0.9' as metric"),
        ("def metric(a, b, c): return True", "gave True as metric"),
        ("def metric(a, b, c): return b[0]", "gave array.* as metric"),
        ("def metric(a, b, c): return {}", "gave 0 figures for the original"),
        ("def metric(a, b, c): return {'f1-score': 1}", "named a figure 'f1-score'"),
        ("def metric(a, b, c): return {'top1': 1}", "named a figure top1, as one of modeldrop's own is called"),
    ],
)
def test_what_fails_is_a_sentence(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"^metric: .*/quality:metric {message}") as caught:
        measure(tmp_path, code)
    assert "metric(original, variant, samples)" in caught.value.hint


def test_figures_that_come_and_go_are_refused(tmp_path: Path) -> None:
    own = measure(tmp_path, "def metric(a, b, c): return {'one': 1} if b[0][0] == 0 else {'other': 1}")
    with pytest.raises(RecipeError, match="gave other for int8, and one for the original"):
        own.of([ANSWERS[1], ANSWERS[1]], "int8")


def test_one_that_hangs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"TimeoutError: it had no answer within 0.2 seconds"):
        measure(tmp_path, "import time\ndef metric(a, b, c): time.sleep(6000)", seconds=0.2)


def measurement(metrics: dict[str, float], worst: dict[str, tuple[int, float]]) -> Measurement:
    return Measurement(metrics=metrics, worst=worst, golden={}, speed=(1.0, 1.0))


def judged(asked: str, value: float, original: float, name: str = "accuracy") -> dict[str, float]:
    recipe = parse_recipe({"metric": "q:f", "thresholds": {"int8": {"accuracy": asked}}})
    measured = measurement({"max_abs": 0.1, name: value}, {"max_abs": (0, 0.1)})
    return dict(judge(recipe, "int8", measured, ["a text"], {name: original}).thresholds)


def test_a_share_is_of_what_the_original_has() -> None:
    assert judged(">= 99%", 0.7921, 0.8) == {"accuracy": pytest.approx(0.792)}
    assert judged("<= 110%", 0.88, 0.8) == {"accuracy": pytest.approx(0.88)}
    assert judged(">= 0.5", 0.5, 0.8) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("asked", "value", "original", "message"),
    [
        (">= 99%", 0.79, 0.8, "int8: accuracy is 0.79, required is >= 99% of the original's 0.8"),
        ("<= 0.1", 0.11, 0.1, "int8: accuracy is 0.11, required is <= 0.1"),
        (">= 99%", -0.5, -0.5, "int8: >= 99% of the original's accuracy means nothing: that is -0.5"),
    ],
)
def test_a_threshold_that_is_missed_is_told_in_full(asked: str, value: float, original: float, message: str) -> None:
    with pytest.raises(FidelityError) as caught:
        judged(asked, value, original)
    assert message in caught.value.message


def test_a_threshold_of_what_the_metric_does_not_give_is_missed() -> None:
    with pytest.raises(FidelityError, match="int8: accuracy is required, and the own metric gives f1"):
        judged(">= 0.5", 1.0, 1.0, name="f1")


def test_nothing_is_asked_of_an_own_metric_by_itself() -> None:
    measured = measurement({"accuracy": 0.0}, {})
    assert judge(Recipe(metric="q:f"), "int8", measured, ["a"], {"accuracy": 1.0}).thresholds == {}
