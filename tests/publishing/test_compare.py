"""Two builds run side by side, by the worker that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from modeldrop.export.workers.compare import compare_answers
from modeldrop.format.golden import GoldenChain, GoldenStep, StepOutput, TensorValue
from modeldrop.format.manifest import serialize_manifest
from modeldrop.format.tasks import MULTI_LABEL, REGRESSION
from modeldrop.publishing.compare import compare_builds
from modeldrop.publishing.comparison import BuildComparison, variant_changes
from modeldrop.registry.publish import read_build
from tests.format.examples import manifest
from tests.helpers.encoder_builds import WORDS, make_encoder

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = (("the harbour at night",), ("fold the dough four times",), ("the dough",))


def compared(tmp_path: Path, texts: tuple[tuple[str, ...], ...] = TEXTS) -> BuildComparison:
    before, after = (read_build(tmp_path / name) for name in ("before", "after"))
    known = BuildComparison(
        channel="current",
        version="v7",
        before=before.digest,
        after=after.digest,
        variants=variant_changes(before.manifest, after.manifest),
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return compare_builds(before, after, known, texts=texts, scratch=scratch)


@pytest.mark.slow
def test_answers_and_latencies_of_both(tmp_path: Path) -> None:
    """The second knows other words and has them in another order: each is asked as its own tokenizer cuts."""
    make_encoder(tmp_path / "before", "a")
    make_encoder(tmp_path / "after", "b", words=(*reversed(WORDS), "more"))
    found = compared(tmp_path)
    assert (found.problems, found.measured, found.inputs) == ((), True, 3)
    for change in found.variants:
        for figures in (change.before, change.after):
            assert figures is not None
            assert figures.one_ms
            assert figures.batch_ms
    assert {answer.variant for answer in found.answers} == {"fp32", "int8"}
    of_one = [answer for answer in found.answers if answer.variant == "fp32"]
    assert sorted(answer.text for answer in of_one) == sorted(text for (text,) in TEXTS)
    assert [answer.difference for answer in of_one] == sorted((one.difference for one in of_one), reverse=True)
    assert of_one[0].difference > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "said"), [(MULTI_LABEL, "of 4 labels are decided otherwise"), (REGRESSION, ", ")])
def test_what_a_classifier_answers_is_said_as_its_scores_mean(tmp_path: Path, problem: str, said: str) -> None:
    for name in ("before", "after"):
        made = make_encoder(tmp_path / name, name)._replace(task="text-classification", problem=problem)
        (tmp_path / name / "manifest.json").write_bytes(serialize_manifest(made))
    found = compared(tmp_path)
    assert found.problems == ()
    assert said in found.answers[0].after
    assert found.answers[0].difference > 0.5


@pytest.mark.slow
def test_the_same_weights_answer_the_same(tmp_path: Path) -> None:
    for name in ("before", "after"):
        make_encoder(tmp_path / name, "a")
    found = compared(tmp_path)
    assert found.problems == ()
    assert [answer.difference for answer in found.answers] == pytest.approx([0.0] * 6, abs=1e-6)


@pytest.mark.slow
def test_known_inputs_where_no_texts_are_given(tmp_path: Path) -> None:
    """With one tokenizer, one version's known ids mean the same to the other; with another they do not."""
    for name in ("before", "after"):
        made = make_encoder(tmp_path / name, name)
        first, second = made.golden.cases
        text = {"before": "of the first", "after": "of the second"}[name]
        cases = tuple(
            case._replace(text=text if case is second else "of both", inputs={"input_ids": (1, 2, 3)})
            for case in (first, second)
        )
        made = made._replace(golden=made.golden._replace(cases=cases))
        (tmp_path / name / "manifest.json").write_bytes(serialize_manifest(made))
    found = compared(tmp_path, ())
    assert {answer.text for answer in found.answers} == {"of both", "of the first", "of the second"}


@pytest.mark.slow
def test_known_inputs_of_several_steps(tmp_path: Path) -> None:
    """As those of models that write: both are asked the very numbers of one of them, and timed with one input alone."""
    for name in ("before", "after"):
        made = make_encoder(tmp_path / name, name)
        steps = tuple(GoldenStep("model", {"input_ids": TensorValue("int64", (1, 2), ids)}) for ids in ((1, 2), (3, 4)))
        output = made.golden.output
        chain = GoldenChain(
            text="go on",
            steps=steps,
            outputs=(StepOutput(0, output), StepOutput(1, output)),
            at=(),
            shape=(2, 4),
            values=(0.0,) * 8,
            targets=(1, 2),
        )
        made = made._replace(task="text-generation", golden=made.golden._replace(cases=(), chains=(chain,)))
        (tmp_path / name / "manifest.json").write_bytes(serialize_manifest(made))
    found = compared(tmp_path)
    assert (found.problems, found.measured, found.inputs) == ((), True, 1)
    assert {answer.text for answer in found.answers} == {"go on"}
    assert all(answer.after.endswith("tokens are others") for answer in found.answers)
    for change in found.variants:
        assert change.after is not None
        assert (change.after.one_ms is not None, change.after.batch_ms) == (True, None)


@pytest.mark.slow
def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    make_encoder(tmp_path / "before", "a")
    make_encoder(tmp_path / "after", "b", width=6)
    (tmp_path / "after" / "onnx" / "model_quantized.onnx").write_bytes(b"no graph")
    found = compared(tmp_path)
    fp32, int8 = found.problems
    assert fp32 == "fp32: it answers 6 numbers where the other version answers 4"
    assert int8.startswith("int8: ")
    assert "model_quantized.onnx" in int8


LABELS = ("ham", "spam")


@pytest.mark.parametrize(
    ("task", "before", "after", "difference", "said"),
    [
        ("feature-extraction", [1.0, 0.0], [0.0, 1.0], 1.0, ("", "")),
        ("feature-extraction", [0.0, 0.0], [0.0, 0.0], 0.0, ("", "")),
        # Another tokenizer cuts a text into more tokens: their mean counts.
        ("feature-extraction", [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0]], 1.0, ("", "")),
        ("feature-extraction", [1.0, 0.0], [float("nan"), 1.0], 1e9, ("", "no numbers")),
        ("text-classification", [0.25], [1.0], 0.75, ("0.25", "1")),
        ("text-classification", [0.0, 0.0], [0.0, 0.0], 0.0, ("ham 0.500", "ham 0.500")),
        ("text-classification", [50.0, 0.0], [0.0, 50.0], 2.0, ("ham 1.000", "spam 1.000")),
        ("token-classification", [[50.0, 0.0]] * 2, [[50.0, 0.0], [0.0, 50.0]], 1.5, ("", "1 of 2 labels are others")),
        ("token-classification", [[1.0, 0.0]], [[1.0, 0.0]], 0.0, ("", "the same labels")),
        ("text-generation", [[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], 1.0, ("", "1 of 2 tokens are others")),
        ("text-generation", [[1.0, 0.0]], [[1.0, 0.0]], 0.0, ("", "the same tokens")),
        ("question-answering", [[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]], 0.0, ("", "the same answer")),
        ("question-answering", [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]], 2.0, ("", "another answer")),
    ],
)
def test_how_far_two_answers_are_apart(
    task: str, before: list[object], after: list[object], difference: float, said: tuple[str, str]
) -> None:
    """Vectors by their cosine, scores as they are, labels by the probability that moved, tokens by their share."""
    one = manifest()._replace(task=task, labels=LABELS)
    found, *words = compare_answers(one, one, np.array(before, np.float64), np.array(after, np.float64))
    assert found == pytest.approx(difference, abs=1e-9)
    assert tuple(words) == said
