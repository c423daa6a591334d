"""Labels for people: what a model's inputs and its metrics are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.format.tasks import task_of

if TYPE_CHECKING:
    from modeldrop.format.manifest import Manifest

_METRICS = {
    "cosine_mean": "Mean cosine similarity",
    "cosine_min": "Lowest cosine similarity",
    "correlation": "Correlation of logits",
    "top1": "Same top class",
    "decisions": "Same decisions",
    "spans": "Same answers",
    "transcript": "Same letters heard",
    "boxes": "Same things found",
    "iou": "Overlap of their boxes",
    "nrmse": "Error in units of the target's spread",
    "max_abs": "Largest absolute difference",
    "neighbours": "Same nearest neighbours",
    "sparse_cosine": "Lowest cosine similarity of words' weights",
    "tokens_cosine": "Lowest cosine similarity of tokens' vectors",
    "kendall_tau": "Kendall's tau of the order",
    "top10": "Same ten best",
    "top5": "Same five best classes",
    "greedy_prefix": "Same tokens before the first other one",
    "kl": "Kullback-Leibler divergence",
    "perplexity_gap": "Perplexity above the original's",
    "abs_error": "Largest absolute error",
    "rel_error": "Largest error, as a share of the output's largest number",
    "label_agreement": "Same labels",
    "rank_agreement": "Same order",
}
# For what writes token by token.
_OF_TOKENS = {"top1": "Same best token", "max_abs": "Largest difference, as a share of the largest score"}
_ORDERS, _PAIR = "kendall_tau", " \u2192 "


def inputs_of(manifest: Manifest) -> tuple[str, str]:
    """What one input of a model is called, and several. Rerankers are recognized by how they are compared."""
    known = [case.text for case in manifest.golden.cases]
    ordered = any(_ORDERS in variant.fidelity.metrics for variant in manifest.variants)
    if ordered and known and all(_PAIR in text for text in known):
        return "pair", "pairs"
    return task_of(manifest.task).inputs


def metric_name(metric: str, task: str) -> str:
    """A metric for people; itself where it is a later release's, or the user's own."""
    of_tokens = _OF_TOKENS if task_of(task).writes else {}
    return of_tokens.get(metric) or _METRICS.get(metric, metric)
