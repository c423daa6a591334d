"""What the fidelity metrics say of answers that are off in a known way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.format.recipe import METRICS
from modeldrop.format.tasks import CTC, MULTI_LABEL, REGRESSION
from modeldrop.inference.metrics import best_span, compare, measure_of, transcript_likeness
from modeldrop.inference.runs import ModelAnswer

RANDOM = np.random.default_rng(3)
PERFECT = {">=": 1.0, "<=": 0.0}
TASKS: dict[str, list[ModelAnswer]] = {
    "feature-extraction": [ModelAnswer(RANDOM.standard_normal(16)) for _ in range(20)],
    "text-classification": [ModelAnswer(RANDOM.standard_normal(9)) for _ in range(20)],
    "token-classification": [ModelAnswer(RANDOM.standard_normal((5, 4))) for _ in range(3)],
    "question-answering": [ModelAnswer(RANDOM.standard_normal((2, 9))) for _ in range(6)],
    "fill-mask": [ModelAnswer(RANDOM.standard_normal((2, 30))) for _ in range(4)],
    "image-classification": [ModelAnswer(RANDOM.standard_normal(3)) for _ in range(4)],
    "text-generation": [
        ModelAnswer(logits, (*logits[1:].argmax(-1).tolist(), 4), 3) for logits in RANDOM.standard_normal((4, 8, 30))
    ],
    "a task of a later release": [ModelAnswer(RANDOM.standard_normal((2, 5))) for _ in range(3)],
}
SCORES = [ModelAnswer(RANDOM.standard_normal(1)) for _ in range(30)]


def values(answers: list[ModelAnswer]) -> list[Any]:
    return [answer.values.copy() for answer in answers]


@pytest.mark.parametrize(("task", "answers"), [*TASKS.items(), ("text-classification", SCORES)])
def test_what_is_equal_is_perfect_and_what_is_no_number_is_as_bad_as_can_be(
    task: str, answers: list[ModelAnswer]
) -> None:
    metrics, worst = compare(task, answers, values(answers))
    assert set(metrics) <= set(METRICS)
    assert metrics == pytest.approx({name: PERFECT[METRICS[name]] for name in metrics}, abs=1e-7)
    broken = values(answers)
    broken[1] = broken[1] * np.nan
    bad, worst = compare(task, answers, broken)
    assert set(bad) == set(metrics)
    for name, value in bad.items():
        assert (value < 1 - 1e-3) if METRICS[name] == ">=" else (value > 1e6), name
    assert worst["max_abs"] == (1, 1e9)


@pytest.mark.parametrize("problem", [MULTI_LABEL, REGRESSION])
def test_what_is_equal_is_perfect_for_every_problem(problem: str) -> None:
    answers = TASKS["text-classification"]
    metrics, _ = compare("text-classification", answers, values(answers), problem)
    assert metrics == pytest.approx({name: PERFECT[METRICS[name]] for name in metrics}, abs=1e-7)
    broken = values(answers)
    broken[1] = broken[1] * np.nan
    bad, worst = compare("text-classification", answers, broken, problem)
    for name, value in bad.items():
        assert (value < 1 - 1e-3) if METRICS[name] == ">=" else (value > 1e6), name
    assert worst["max_abs"] == (1, 1e9)


def test_labels_that_may_all_be_true_are_compared_by_what_is_decided() -> None:
    """Which of three true labels is a little ahead is nothing that anybody asks."""
    answers = [ModelAnswer(np.array([2.0, 2.1, 1.9, -3.0])) for _ in range(10)]
    variant = [np.array([2.1, 2.0, 2.0, -3.0]) for _ in answers]
    assert compare("text-classification", answers, variant)[0]["top1"] == 0
    metrics, _ = compare("text-classification", answers, variant, MULTI_LABEL)
    assert "top1" not in metrics
    assert "kl" not in metrics
    assert metrics["decisions"] == 1
    variant[3] = np.array([2.1, -2.0, -2.0, -3.0])
    metrics, worst = compare("text-classification", answers, variant, MULTI_LABEL)
    assert metrics["decisions"] == pytest.approx(38 / 40)
    assert worst["decisions"] == (3, 0.5)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e6])
def test_estimates_are_compared_in_units_of_their_spread(unit: float) -> None:
    """Whether prices are in cents or in millions, an error of a tenth of what they vary by is the same."""
    prices = np.linspace(-1, 1, 21) * unit + 7 * unit
    answers = [ModelAnswer(np.array([price, unit])) for price in prices]  # the second one never varies
    moved = [one.values + np.array([0.1 * float(prices.std()), 0]) for one in answers]
    metrics, worst = compare("text-classification", answers, moved, REGRESSION)
    assert metrics["nrmse"] == pytest.approx(0.1)
    assert metrics["max_abs"] == pytest.approx(0.1)
    assert metrics["correlation"] == pytest.approx(1.0)
    moved[4][0] += float(prices.std())
    metrics, worst = compare("text-classification", answers, moved, REGRESSION)
    assert worst["nrmse"][0] == 4
    assert worst["nrmse"][1] == pytest.approx(1.1)
    moved = [one.values * np.array([1, 1.5]) for one in answers]
    assert compare("text-classification", answers, moved, REGRESSION)[0]["nrmse"] == pytest.approx(0.5)


def test_what_answers_mean_follows_from_the_task_and_their_shape() -> None:
    assert measure_of("feature-extraction", (384,)) == "vector"
    assert measure_of("feature-extraction", (7, 384)) == "hidden"
    assert measure_of("text-classification", (1,)) == "score"
    assert measure_of("token-classification", (7, 5)) == "classes"
    assert measure_of("question-answering", (2, 7)) == "spans"
    assert measure_of("fill-mask", (1, 500)) == "classes"
    assert measure_of("text2text-generation", (7, 500)) == "tokens"
    assert measure_of("telepathy", (7, 500)) == "hidden"


@given(st.permutations(list(range(12))))
def test_the_order_of_a_reranker(order: list[int]) -> None:
    answers = [ModelAnswer(np.array([float(value)])) for value in range(12)]
    metrics, _ = compare("text-classification", answers, [np.array([float(value)]) for value in order])
    pairs = [(a, b) for a in range(12) for b in range(a)]
    kept = sum((order[a] > order[b]) for a, b in pairs)
    assert metrics["kendall_tau"] == pytest.approx(2 * kept / len(pairs) - 1)
    best = {place for place, value in enumerate(order) if value >= 2}
    assert metrics["top10"] == pytest.approx(len(best & set(range(2, 12))) / 10)


def test_passages_are_put_in_order_for_each_question_alone() -> None:
    """Scores of other questions may move past each other: nobody compares them."""
    scores = np.arange(24.0) % 12
    answers = [ModelAnswer(np.array([score]), question=index // 12) for index, score in enumerate(scores)]
    moved = [one.values + (0.3 if one.question else 0.0) for one in answers]
    metrics, _ = compare("text-classification", answers, moved)
    assert (metrics["kendall_tau"], metrics["top10"]) == (1.0, 1.0)
    turned = [-one.values if one.question else one.values for one in answers]
    metrics, _ = compare("text-classification", answers, turned)
    assert metrics["kendall_tau"] == pytest.approx(0.0)
    assert metrics["top10"] == pytest.approx((1.0 + 0.8) / 2)


def test_the_worst_question_is_named_by_the_passage_that_moved_furthest() -> None:
    answers = [ModelAnswer(np.array([float(index % 12)]), question=index // 12) for index in range(36)]
    moved = values(answers)
    moved[12][0] += 20  # the last of the second question comes first
    metrics, worst = compare("text-classification", answers, moved)
    assert metrics["top10"] == pytest.approx((1.0 + 0.9 + 1.0) / 3)
    assert worst["top10"] == (12, 0.9)
    assert worst["kendall_tau"] == (12, round(1 - 2 * 11 / 66, 8))
    moved[30] *= np.nan
    metrics, worst = compare("text-classification", answers, moved)
    assert (metrics["top10"], metrics["kendall_tau"], worst["correlation"]) == (0.0, -1.0, (30, -1.0))


def test_questions_with_a_passage_each_are_put_in_one_order() -> None:
    answers = [ModelAnswer(one.values, question=index) for index, one in enumerate(SCORES)]
    mixed = [one.values for one in answers[1:] + answers[:1]]
    assert compare("text-classification", answers, mixed)[0] == compare("text-classification", SCORES, mixed)[0]


def test_scores_that_only_moved_keep_their_order() -> None:
    metrics, _ = compare("text-classification", SCORES, [3 * one + 5 for one in values(SCORES)])
    assert (metrics["correlation"], metrics["kendall_tau"], metrics["top10"]) == (1.0, 1.0, 1.0)
    assert metrics["max_abs"] > 5


def test_the_greedy_prefix_ends_at_the_first_other_token() -> None:
    answers = TASKS["text-generation"]
    other = values(answers)
    for logits in other:
        logits[1, 0] = 100.0  # in the text that was given: no choice of the original's
        logits[5, logits[5].argmin()] = 100.0
    metrics, worst = compare("text-generation", answers, other)
    assert metrics["greedy_prefix"] == pytest.approx(2 / 5)
    assert metrics["top1"] == pytest.approx(6 / 8, abs=0.13)
    assert worst["greedy_prefix"][1] == pytest.approx(2 / 5)


def test_perplexity_is_that_of_the_tokens_that_follow() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    variant = np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]))
    metrics, _ = compare("text-generation", [ModelAnswer(logits, (0, 1))], [variant])
    assert metrics["perplexity_gap"] == pytest.approx((0.5 / 0.25) ** 0.5 - 1)
    assert metrics["kl"] == pytest.approx((0.5 * np.log(2) + 0.25 * np.log(0.5)) / 2)


def test_an_answer_begins_before_it_ends_and_is_no_longer_than_fifteen_tokens() -> None:
    begins, ends = np.zeros(40), np.zeros(40)
    begins[20], ends[5], ends[39], ends[34] = 9.0, 8.0, 7.0, 1.0
    assert best_span(np.stack([begins, ends])) == (20, 34)
    answers = [ModelAnswer(np.stack([begins, ends])) for _ in range(4)]
    other = values(answers)
    other[2][1, 33] = 2.0
    metrics, worst = compare("question-answering", answers, other)
    assert (metrics["spans"], worst["spans"]) == (0.75, (2, 0.0))


def things(*rows: tuple[int, float, tuple[float, float, float, float]]) -> np.ndarray:
    """Rows of a detector whose last label, the third, is that of nothing: (label, score, box)."""
    made = []
    for label, score, box in rows:
        shares = np.full(3, 1e-6)
        shares[label], shares[2] = score, 1 - score
        made.append([*np.log(shares), *box])
    return np.array(made)


CAT, DOG, NOISE = (0, 0.9, (0.3, 0.3, 0.2, 0.2)), (1, 0.8, (0.7, 0.7, 0.2, 0.4)), (0, 0.2, (0.5, 0.5, 0.9, 0.9))


def test_things_are_the_same_whatever_their_order_and_what_is_not_found_counts() -> None:
    answers = [ModelAnswer(things(CAT, DOG, NOISE)) for _ in range(4)]
    moved = (1, 0.8, (0.7, 0.7, 0.25, 0.4))
    variant = [things(DOG, NOISE, CAT), things(CAT, moved, NOISE), things(CAT, NOISE, NOISE), things(CAT, DOG, CAT)]
    metrics, worst = compare("object-detection", answers, variant)
    # The dog of the third is lost: one of three is not found by the other. A thing twice is still that thing.
    assert metrics["boxes"] == pytest.approx((1 + 1 + 2 / 3 + 1) / 4)
    assert worst["boxes"][0] == 2
    assert worst["boxes"][1] == pytest.approx(2 / 3)
    assert metrics["iou"] == pytest.approx((1 + (1 + 0.8) / 2 + 1 + 1) / 4)
    assert metrics["max_abs"] == pytest.approx(0.025, abs=1e-6)


def test_a_score_at_the_limit_may_fall_below_it() -> None:
    answers = [ModelAnswer(things((0, 0.501, CAT[2]), DOG))]
    assert compare("object-detection", answers, [things((0, 0.499, CAT[2]), DOG)])[0]["boxes"] == 1
    assert compare("object-detection", answers, [things((0, 0.3, CAT[2]), DOG)])[0]["boxes"] < 1


def test_where_nothing_is_found_the_best_five_count() -> None:
    rows = [(0, 0.3 - 0.01 * place, (0.1 * place, 0.5, 0.1, 0.1)) for place in range(9)]
    answers = [ModelAnswer(things(*rows))]
    far = [*rows[:8], (0, 0.01, (0.9, 0.9, 0.1, 0.1))]
    assert compare("object-detection", answers, [things(*far)])[0]["boxes"] == 1
    lost = [(1, *rows[0][1:]), *rows[1:]]
    assert compare("object-detection", answers, [things(*lost)])[0]["boxes"] == pytest.approx(4 / 5)


def test_a_transcript_is_the_best_letters_without_repetitions_and_blanks() -> None:
    def frames(*letters: int) -> np.ndarray:
        return np.eye(6)[list(letters)]

    heard = frames(0, 3, 3, 0, 3, 4, 4, 0, 5)  # 3 3 4 5
    assert transcript_likeness(heard, frames(3, 0, 3, 4, 5, 0)) == 1
    assert transcript_likeness(heard, frames(3, 3, 4, 5)) == pytest.approx(3 / 4)
    assert transcript_likeness(heard, frames(0, 0)) == 0
    metrics, worst = compare("automatic-speech-recognition", [ModelAnswer(heard)] * 2, [heard, heard[::-1]], CTC)
    assert metrics["transcript"] == pytest.approx((1 + transcript_likeness(heard, heard[::-1])) / 2)
    assert worst["transcript"][0] == 1
    assert {"greedy_prefix", "perplexity_gap"}.isdisjoint(metrics)


def test_neighbours_are_measured_where_there_are_enough() -> None:
    answers = TASKS["feature-extraction"]
    turned, _ = np.linalg.qr(RANDOM.standard_normal((16, 16)))
    metrics, _ = compare("feature-extraction", answers, [one @ turned for one in values(answers)])
    assert metrics["neighbours"] == 1.0
    assert metrics["cosine_mean"] < 0.5
    metrics, _ = compare("feature-extraction", answers[:10], values(answers[:10]))
    assert "neighbours" not in metrics
