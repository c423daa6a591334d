"""Fidelity metrics: how far a variant's answers are from the original's, by what the answers mean.

========== ============================================ =====================================================
measure    answers                                      metrics
========== ============================================ =====================================================
vector     one vector each: embeddings                  cosine, neighbours
hidden     any numbers                                  cosine (mean along the last axis)
score      one number each: rerankers                   correlation, kendall_tau, top10
classes    scores of labels, per text or token          cosine, top1, kl; top5 where there are more than 5 labels
spans      by token, how well an answer begins and ends  cosine, spans, kl
boxes      things in a picture: scores of labels, a box  boxes, iou
frames     frame by frame, scores of letters: CTC        cosine, top1, kl, transcript
labels     scores of labels that may all be true         cosine, decisions
targets    numbers that are estimated: regression        nrmse, correlation
tokens     scores of the next token, row by row         cosine, top1, kl, greedy_prefix, perplexity_gap
outputs    whatever a graph answers, by name            those of ``outputs.py``
========== ============================================ =====================================================

``max_abs``, the largest difference of two numbers, belongs to all of them but the last; for tokens, whose scores have
no scale of their own, it is a share of the original's largest score, and for targets of their spread. Of boxes it is
that of scores, and of corners as shares of the picture's sides, among things that both have found.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modeldrop.format.tasks import BESIDE_METRICS, CTC, MULTI_LABEL, REGRESSION, SPARSE_VECTORS, task_of
from modeldrop.inference.outputs import FAR, compare_named
from modeldrop.inference.runs import ModelAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]
    Arrays = Sequence[Array]
    Figures = dict[str, float]
    Worst = dict[str, tuple[int, float]]

_DIGITS = 8
_LEAST_SPREAD = 1e-6
_NEIGHBOURS = 5
_FIRST = 10
_LONGEST_SPAN = 15
_LEAST_SCORE, _BEST_FOUND, _BORDER, _SAME_BOX = 0.5, 5, 0.05, 0.5
_UNORDERED = ("boxes", "boxes or nothing")
"""What a model finds in a picture has no order: its rows are those of no other one."""
_PROBLEMS = {MULTI_LABEL: "labels", REGRESSION: "targets"}


def measure_of(task: str, shape: Sequence[int], problem: str = "") -> str:
    """What the answers of a task mean; ``shape`` is that of one answer, ``problem`` as in ``compare``."""
    answers = task_of(task).answers
    if answers == "classes":
        if problem in _PROBLEMS:
            return _PROBLEMS[problem]
        return "classes" if shape[-1] > 1 else "score"
    if problem == CTC:
        return "frames"
    if answers == "boxes":
        return "boxes" if problem == MULTI_LABEL else "boxes or nothing"
    if answers in {"spans", "tokens", "outputs"}:
        return answers
    return "vector" if len(shape) == 1 else "hidden"


def compare(
    task: str, expected: Sequence[ModelAnswer], answers: Sequence[Any], problem: str = ""
) -> tuple[Figures, Worst]:
    """Compare answers, input by input.

    Args:
        task: the Hub name of what the model does.
        expected: the original's answers.
        answers: the variant's, of the same shapes; as ``OpenVariant.answer`` gives them.
        problem: what a classifier's scores mean, as manifests say; "" for the labels of which one is true.

    Returns:
        The metrics, and for those that have one, the index of the worst input with the value there. A non-finite
        answer is as far off as can be.
    """
    if expected[0].named:
        return compare_named([one.named for one in expected], answers)
    finite = [bool(np.isfinite(answer).all()) for answer in answers]
    originals = [one.values.astype(np.float64) for one in expected]
    # What is no number is replaced by what is as far as can be from any answer, and counts as that below.
    variants = [
        answer.astype(np.float64) if good else np.zeros(answer.shape)
        for answer, good in zip(answers, finite, strict=True)
    ]
    measure = measure_of(task, originals[0].shape, problem)
    scales: list[Any] = [float(np.abs(one).max()) or 1.0 if measure == "tokens" else 1.0 for one in originals]
    if measure == "targets":
        scales = [_spreads(originals)] * len(originals)
    differences = [
        float((np.abs(one - other) / scale).max()) if good else FAR
        for one, other, good, scale in zip(originals, variants, finite, scales, strict=True)
    ]
    metrics, worst = _highest("max_abs", differences) if measure not in _UNORDERED else ({}, {})
    for part in _PARTS[measure]:
        figures, where = part(expected, originals, variants, finite)
        metrics |= figures
        worst |= where
    rounded = {name: _rounded(value) for name, value in metrics.items()}
    return rounded, {name: (index, _rounded(value)) for name, (index, value) in worst.items()}


def compare_beside(expected: Sequence[ModelAnswer], answers: Sequence[Mapping[str, Array]]) -> tuple[Figures, Worst]:
    """Compare what an embedder answers besides its vectors; no figures of one that answers nothing else.

    Args:
        expected: the original's answers.
        answers: the variant's, by the name of the output: [tokens, width].
    """
    figures: Figures = {}
    worst: Worst = {}
    differences = np.zeros(len(expected))
    for output in expected[0].beside:
        cosines = []
        for number, (one, other) in enumerate(zip(expected, answers, strict=True)):
            mine, its = (side[output].astype(np.float64) for side in (one.beside, other))
            good = mine.shape == its.shape and bool(np.isfinite(its).all())
            differences[number] = max(differences[number], np.abs(mine - its).max(initial=0.0) if good else FAR)
            cosines.append(_beside_cosine(output, mine, its) if good else -1.0)
        for figure, where in (_lowest(BESIDE_METRICS[output], cosines), _highest("max_abs", differences.tolist())):
            figures |= {name: _rounded(value) for name, value in figure.items()}
            worst |= {name: (index, _rounded(value)) for name, (index, value) in where.items()}
    return figures, worst


def _beside_cosine(output: str, mine: Array, its: Array) -> float:
    """Of weights, that of a text's; of vectors, the mean of its tokens'. Where both sides have nothing, they agree."""
    mine, its = (side[:, 0][None] if output == SPARSE_VECTORS else side for side in (mine, its))
    nothing = ~(mine.any(-1) | its.any(-1))
    norms = np.linalg.norm(mine, axis=-1) * np.linalg.norm(its, axis=-1)
    return float(np.where(nothing, 1.0, (mine * its).sum(-1) / np.maximum(norms, 1e-30)).mean()) if mine.size else 1.0


def _cosines(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """Mean and lowest cosine along the last axis."""
    values = [_cosine(*pair) if good else -1.0 for *pair, good in zip(one, other, finite, strict=True)]
    figures, where = _lowest("cosine_min", values)
    return {"cosine_mean": float(np.mean(values))} | figures, where


def _neighbours(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The mean share of the five nearest inputs, by cosine, that stay among the five nearest."""
    if len(one) < 2 * _NEIGHBOURS + 1:
        return {}, {}
    shares = []
    near = [_nearest(side) for side in (one, other)]
    for mine, its, good in zip(*near, finite, strict=True):
        shares.append(len(mine & its) / _NEIGHBOURS if good else 0.0)
    return {"neighbours": float(np.mean(shares))}, {"neighbours": _lowest("", shares)[1][""]}


def _nearest(vectors: Arrays) -> list[set[int]]:
    matrix = np.stack(vectors)
    matrix = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-30)
    likeness = matrix @ matrix.T
    np.fill_diagonal(likeness, -np.inf)
    return [set(row[:_NEIGHBOURS].tolist()) for row in np.argsort(-likeness, axis=1, kind="stable")]


def _order(expected: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """Pearson's correlation of all scores; by question, then averaged, the order.

    The order is Kendall's tau-a, and the share of the ten best passages that stay among the ten best, over questions
    with more than ten. Where every question has one passage only, all are put in one order.
    """
    mine, its = (np.concatenate([np.ravel(values) for values in side]) for side in (one, other))
    rows = [index for index, values in enumerate(one) for _ in range(values.size)]
    questions = np.array([expected[row].question for row in rows])
    if len(set(questions.tolist())) == len(questions):
        questions[:] = 0
    groups = [np.flatnonzero(questions == number) for number in dict.fromkeys(questions.tolist())]
    apart = np.where([finite[row] for row in rows], np.abs(mine - its), np.inf)
    figures = {"correlation": _correlation(mine, its) if all(finite) else -1.0}
    worst = {"correlation": (rows[int(apart.argmax())], figures["correlation"])}
    for name, (measure, min_size, useless) in _ORDERS.items():
        judged = [group for group in groups if len(group) >= min_size]
        if not judged:
            continue
        values = [measure(mine[group], its[group]) if all(finite) else useless for group in judged]
        figures[name] = float(np.mean(values))
        # The worst question, by the passage whose score moved furthest.
        lowest = int(np.argmin(values))
        worst[name] = (rows[judged[lowest][apart[judged[lowest]].argmax()]], values[lowest])
    return figures, worst


def _kendall(one: Array, other: Array) -> float:
    above = np.triu_indices(len(one), 1)
    signs = [np.sign(values[:, None] - values[None, :])[above] for values in (one, other)]
    return float(np.mean(signs[0] == signs[1]) * 2 - 1)


def _kept(one: Array, other: Array) -> float:
    best = [set(np.argsort(-values, kind="stable")[:_FIRST].tolist()) for values in (one, other)]
    return len(best[0] & best[1]) / _FIRST


# What is measured for a question, from how many passages on, and the value of answers that are no numbers.
_ORDERS: dict[str, tuple[Callable[[Array, Array], float], int, float]] = {
    "kendall_tau": (_kendall, 2, -1.0),
    "top10": (_kept, _FIRST + 1, 0.0),
}


def _labels(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The share of equal best labels."""
    pairs = zip(one, other, finite, strict=True)
    return _shares("top1", [float(np.mean(a.argmax(-1) == b.argmax(-1))) if good else 0.0 for a, b, good in pairs])


def _decisions(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The share of labels that are decided alike: true where the probability is above a half."""
    pairs = zip(one, other, finite, strict=True)
    return _shares("decisions", [float(np.mean((a > 0) == (b > 0))) if good else 0.0 for a, b, good in pairs])


def _errors(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The root mean squared error in units of the standard deviation, and the correlation: the worst target's."""
    mine, its = (np.stack([np.ravel(values) for values in side]) for side in (one, other))
    off = np.where(np.array(finite)[:, None], np.abs(mine - its) / _spreads(one), np.inf)
    nrmse = float(np.sqrt((off**2).mean(0)).max())
    correlation = min(map(_correlation, mine.T, its.T)) if all(finite) else -1.0
    far = int(off.max(1).argmax())
    figures = {"nrmse": nrmse, "correlation": correlation}
    return figures, {"nrmse": (far, float(off[far].max())), "correlation": (far, correlation)}


def _spreads(originals: Arrays) -> Array:
    """The standard deviation of every target; where it does not vary, its size."""
    targets = np.stack([np.ravel(values) for values in originals])
    spreads, sizes = targets.std(0), np.abs(targets).max(0)
    return np.where(spreads > sizes * _LEAST_SPREAD, spreads, np.where(sizes > 0, sizes, 1.0))


def _spans(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The share of inputs whose best span is the same."""
    pairs = zip(one, other, finite, strict=True)
    return _shares("spans", [float(best_span(a) == best_span(b)) if good else 0.0 for a, b, good in pairs])


def best_span(scores: Array) -> tuple[int, int]:
    """The first and the last token of the likeliest answer, of 15 tokens at most: transformers' default.

    Args:
        scores: [2, tokens]: how well it begins, and ends, at every token of the passage.
    """
    begins, ends = scores
    both = begins[:, None] + ends[None, :]
    tokens = np.arange(len(begins))
    long = tokens[None, :] - tokens[:, None]
    best = np.where((long >= 0) & (long < _LONGEST_SPAN), both, -np.inf).argmax()
    first, last = divmod(int(best), len(begins))
    return first, last


def _first_five(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The mean share of the five best labels that stay among the five best."""
    if min(values.shape[-1] for values in one) <= 5:
        return {}, {}
    shares = []
    for a, b, good in zip(one, other, finite, strict=True):
        best = [np.argsort(-side.reshape(-1, side.shape[-1]), axis=-1, kind="stable")[:, :5] for side in (a, b)]
        common = [len(set(x.tolist()) & set(y.tolist())) / 5 for x, y in zip(*best, strict=True)]
        shares.append(float(np.mean(common)) if good else 0.0)
    return _shares("top5", shares)


def _divergence(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """Mean Kullback-Leibler divergence of the variant's softmax from the original's, in nats."""
    values = []
    for a, b, good in zip(one, other, finite, strict=True):
        p, q = _log_softmax(a), _log_softmax(b)
        values.append(float(np.mean((np.exp(p) * (p - q)).sum(-1))) if good else FAR)
    return {"kl": float(np.mean(values))}, _highest("kl", values)[1]


def _greedy(expected: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The mean share of the original's own tokens before the first that the variant would not have chosen.

    Every row was computed after the tokens that the original chose: up to the first difference they are the tokens
    that the variant would have chosen by itself.
    """
    shares = []
    for answer, a, b, good in zip(expected, one, other, finite, strict=True):
        same = (a.argmax(-1) == b.argmax(-1))[answer.begin :]
        shares.append((float(same.argmin()) / len(same) if not same.all() else 1.0) if good else 0.0)
    return _shares("greedy_prefix", shares)


def _perplexity(expected: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """By how much the perplexity of the tokens that follow is above the original's, as a share of it."""
    if not all(finite):
        return {"perplexity_gap": FAR}, {}
    losses = []
    for side in (one, other):
        picked = [
            _log_softmax(values)[np.arange(len(values)), list(answer.targets)]
            for values, answer in zip(side, expected, strict=True)
        ]
        losses.append(-float(np.mean(np.concatenate(picked))))
    return {"perplexity_gap": float(np.expm1(min(losses[1] - losses[0], 20.0)))}, {}


def _transcripts(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool]) -> Any:
    """The mean likeness of what is heard."""
    pairs = zip(one, other, finite, strict=True)
    return _shares("transcript", [transcript_likeness(a, b) if good else 0.0 for a, b, good in pairs])


def transcript_likeness(one: Array, other: Array) -> float:
    """One less the edits between two transcripts, as a share of the first one's letters; 0 at least.

    A transcript is the best letter of every frame, without repetitions and then without the letter 0, which is none.

    Args:
        one: scores [frames, letters] of the original.
        other: those of a variant.
    """
    mine, its = _heard(one), _heard(other)
    # Levenshtein's distance, row by row.
    row = np.arange(len(its) + 1)
    for letter in mine:
        above = row.copy()
        row[0] += 1
        for place, heard in enumerate(its, 1):
            row[place] = min(above[place] + 1, row[place - 1] + 1, above[place - 1] + (letter != heard))
    return max(0.0, 1 - float(row[-1]) / max(len(mine), 1))


def _heard(scores: Array) -> list[int]:
    best = scores.argmax(-1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return kept[kept != 0].tolist()  # type: ignore[no-any-return]


def _boxes(_: Sequence[ModelAnswer], one: Arrays, other: Arrays, finite: Sequence[bool], *, nothing: bool) -> Any:
    """The share of things that both find, how well their boxes overlap, and how far the numbers of these are apart."""
    pairs = [
        found_by_both(a, b, nothing=nothing) if good else (0.0, 0.0, FAR)
        for a, b, good in zip(one, other, finite, strict=True)
    ]
    shares, overlaps, differences = zip(*pairs, strict=True)
    figures, where = _shares("boxes", shares)
    for more in (_shares("iou", overlaps), _highest("max_abs", differences)):
        figures |= more[0]
        where |= more[1]
    return figures, where


def found_by_both(one: Array, other: Array, *, nothing: bool) -> tuple[float, float, float]:
    """Of a picture: the share of things found by both, the mean overlap of their boxes, the largest difference.

    What counts is what the original scores above 0.5, or if that is nothing, its best five; and what the variant
    scores as high. So that nothing depends on a score that is just above the limit, a thing is looked for among all
    that the other one scores up to 0.05 below. The same thing has the same label, and boxes with an overlap (area in
    common by area of both) of a half or more.
    """
    sides = [_detections(values, nothing=nothing) for values in (one, other)]
    ranked = np.sort(sides[0][1])[::-1]
    least = min(_LEAST_SCORE, float(ranked[min(_BEST_FOUND, len(ranked)) - 1]))
    if ranked[0] >= _LEAST_SCORE:
        least = _LEAST_SCORE
    found, overlaps, differences = [], [], []
    for (labels, scores, corners), (its_labels, its_scores, its_corners) in (sides, sides[::-1]):
        for row in np.flatnonzero(scores >= least):
            same = np.where(
                (its_labels == labels[row]) & (its_scores >= least - _BORDER), _overlaps(corners[row], its_corners), 0.0
            )
            best = int(same.argmax())
            found.append(float(same[best] >= _SAME_BOX))
            if same[best] >= _SAME_BOX:
                overlaps.append(float(same[best]))
                differences.append(
                    float(max(abs(scores[row] - its_scores[best]), np.abs(corners[row] - its_corners[best]).max()))
                )
    return float(np.mean(found)), float(np.mean(overlaps or [0.0])), max(differences, default=0.0)


def _detections(values: Array, *, nothing: bool) -> tuple[Array, Array, Array]:
    """Of every row its label, that one's score, and the corners of the box as shares of the picture's sides.

    Args:
        values: scores of labels, then a box: its middle, width and height.
        nothing: whether the last label is that of nothing, so that scores are shares; else each is by itself.
    """
    logits, boxes = values[:, :-4], values[:, -4:]
    scores = np.exp(_log_softmax(logits))[:, :-1] if nothing else 1 / (1 + np.exp(-logits))
    middle, sides = boxes[:, :2], boxes[:, 2:]
    return scores.argmax(-1), scores.max(-1), np.concatenate([middle - sides / 2, middle + sides / 2], -1)


def _overlaps(corners: Array, others: Array) -> Array:
    """Intersection over union of a box with every other one."""
    inside = np.maximum(np.minimum(corners[2:], others[:, 2:]) - np.maximum(corners[:2], others[:, :2]), 0).prod(-1)
    areas = np.maximum(others[:, 2:] - others[:, :2], 0).prod(-1) + np.maximum(corners[2:] - corners[:2], 0).prod()
    return np.asarray(inside / np.maximum(areas - inside, 1e-12))


_PARTS: dict[str, tuple[Callable[..., tuple[Figures, Worst]], ...]] = {
    "vector": (_cosines, _neighbours),
    "hidden": (_cosines,),
    "score": (_order,),
    "classes": (_cosines, _labels, _first_five, _divergence),
    "spans": (_cosines, _spans, _divergence),
    "boxes": (partial(_boxes, nothing=False),),
    "boxes or nothing": (partial(_boxes, nothing=True),),
    "frames": (_cosines, _labels, _divergence, _transcripts),
    "labels": (_cosines, _decisions),
    "targets": (_errors,),
    "tokens": (_cosines, _labels, _divergence, _greedy, _perplexity),
}


def _lowest(name: str, values: Sequence[float]) -> tuple[Figures, Worst]:
    index = int(np.argmin(values))
    return {name: values[index]}, {name: (index, values[index])}


def _highest(name: str, values: Sequence[float]) -> tuple[Figures, Worst]:
    index = int(np.argmax(values))
    return {name: values[index]}, {name: (index, values[index])}


def _shares(name: str, values: Sequence[float]) -> tuple[Figures, Worst]:
    return {name: float(np.mean(values))}, _lowest(name, values)[1]


def _rounded(value: float) -> float:
    return round(min(float(value), FAR), _DIGITS)


def _cosine(one: Array, other: Array) -> float:
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return float(np.mean((one * other).sum(-1) / np.maximum(norms, 1e-30)))


def _correlation(one: Array, other: Array) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = np.linalg.norm(one) * np.linalg.norm(other)
    if scale == 0:
        return 1.0 if np.allclose(one, other) else 0.0
    return float(one @ other / scale)


def _log_softmax(values: Array) -> Array:
    shifted = values - values.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
