"""Run the variants from clean copies with onnxruntime and tokenizers alone; compare and time them.

Runs as ``python -m modeldrop.export.workers.verify REQUEST``; see ``messages.VerifyRequest``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from modeldrop.errors import IncompleteError
from modeldrop.export.inputs import quoted_input
from modeldrop.export.messages import Comparison, Measurement, VariantFolder, VerifyAnswer, VerifyRequest
from modeldrop.export.models.shared.golden import golden_of
from modeldrop.export.models.shared.reference import load_reference
from modeldrop.export.models.shared.timing import median_ms
from modeldrop.export.workers.own_metric import OwnMeasure, own_measure
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.recipe import METRICS
from modeldrop.inference import open_variant
from modeldrop.inference.metrics import compare, compare_beside
from modeldrop.inference.runs import Array, ModelRun, OpenVariant, answer_in, answer_of
from modeldrop.util.text import first_line

_PADDED = 8
# Up to here, variants stay open from the proof until they are timed: all at once may need more memory than making them.
_HELD = 500_000_000
_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


def work(request: VerifyRequest, events: Events) -> VerifyAnswer:
    """Compare every variant with the original, then time them all."""
    comparison = request.comparison
    reference = load_reference(comparison.reference)
    own = own_measure(comparison, reference.proof)
    held: dict[str, OpenVariant] = {}
    paths = (path for variant in request.variants.values() for path in variant.folder.rglob("*"))
    weights = sum(path.stat().st_size for path in paths if path.is_file())
    compared: dict[str, Callable[..., Measurement]] = {}
    events.inputs(len(reference.proof))
    events.step("prove")
    for number, (name, files) in enumerate(request.variants.items()):
        variant = open_checked(files, reference.proof[0])
        metrics, worst = figures(variant, files.folder, reference.proof, comparison, own, name)
        kept = [run.answer for run in reference.golden]
        golden, _ = compare(
            comparison.task, kept, [variant.answer(run) for run in reference.golden], comparison.problem
        )
        compared[name] = partial(Measurement, metrics=metrics, worst=worst, golden=golden)
        if weights <= _HELD:
            held[name] = variant
        del variant  # before the next one is opened
        events.progress(number + 1, len(request.variants))
    events.step("measure")
    measured = {}
    for number, (name, files) in enumerate(request.variants.items()):
        variant = held.get(name) or open_checked(files, reference.proof[0])
        one, batch = (median_ms(lambda run=run, variant=variant: variant.run(run.steps)) for run in reference.timed)  # type: ignore[misc]
        measured[name] = compared[name](speed=(one, batch))
        del variant
        events.progress(number + 1, len(request.variants))
    foreign = sorted({"torch", "transformers"} & set(sys.modules))
    if foreign and own is None:  # an own metric may load what it likes
        raise IncompleteError(f"The variants were to run without them, but {', '.join(foreign)} got loaded.")
    # What one graph makes of token ids alone is kept in the form that every release reads.
    encodes = comparison.texts and all(is_encoding(run) for run in reference.proof)
    whole = all(len(run.outputs) == 1 and not run.at and not run.rows for run in reference.golden)
    return VerifyAnswer(
        variants=measured,
        inputs=tuple(run.text for run in reference.proof),
        original_metrics=own.original if own else {},
        golden=golden_of(reference.golden, cases=encodes and whole),
    )


def figures(
    variant: OpenVariant,
    folder: Path,
    proof: Sequence[ModelRun],
    comparison: Comparison,
    own: OwnMeasure | None,
    name: str,
) -> tuple[dict[str, float], dict[str, tuple[int, float]]]:
    """How a variant compares with the original: metrics, and the worst input of each by index.

    What one graph makes of token ids alone is also run in batches; the worse figure counts. An own metric is given
    the answers of every input alone.

    Raises:
        IncompleteError: tokenizer.json does not give what the original tokenizer gives.
        RecipeError: the own metric fails.
    """
    task, problem = comparison.task, comparison.problem
    expected = [run.answer for run in proof]
    encodes = comparison.texts and all(is_encoding(run) for run in proof)
    tokenizer = _tokenizer(folder) if comparison.texts else None
    if tokenizer is not None:
        _check_tokens(tokenizer, proof, whole=encodes)
    results = [variant.run(run.steps) for run in proof]
    answers = [answer_in(result, run) for result, run in zip(results, proof, strict=True)]
    metrics, worst = compare(task, expected, answers, problem)
    beside: list[Mapping[str, Array]] = [
        {name: result[0][name][0] for name in one.beside} for result, one in zip(results, expected, strict=True)
    ]
    _take_worse(metrics, worst, *compare_beside(expected, beside))
    if encodes and tokenizer is not None and proof[0].outputs[0].output != "last_hidden_state":
        padded, beside = _padded(variant, tokenizer, proof)
        _take_worse(metrics, worst, *compare(task, expected, padded, problem))
        _take_worse(metrics, worst, *compare_beside(expected, beside))
    if own is not None:
        metrics |= own.of(answers, name)
    return metrics, worst


def open_checked(files: VariantFolder, run: ModelRun) -> OpenVariant:
    """A variant as a service would open it.

    Raises:
        IncompleteError: a graph does not load, or wants what nothing here gives.
    """
    graphs = files.graphs
    try:
        variant = open_variant(files.folder, graphs)
    except Exception as error:
        said = first_line(error)
        raise IncompleteError(f"{', '.join(graphs.values())} does not load from a clean folder: {said}") from error
    for step in run.steps:
        unknown = variant.lacking(step)
        if unknown:
            raise IncompleteError(
                f"{graphs.get(step.graph, step.graph)} wants inputs that are not known: {', '.join(unknown)}."
            )
    return variant


def _tokenizer(folder: Path) -> Any:
    import tokenizers  # models that read no texts are built without it

    try:
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise IncompleteError(f"tokenizer.json does not load from a clean folder: {error}") from error


def _encode(tokenizer: Any, samples: Sequence[tuple[str, ...]]) -> Any:
    return tokenizer.encode_batch([sample if len(sample) > 1 else sample[0] for sample in samples])


def is_encoding(run: ModelRun) -> bool:
    """Whether it is one run of one graph on token ids."""
    return len(run.steps) == 1 and set(run.steps[0].inputs) <= set(_COLUMNS)


def _check_tokens(tokenizer: Any, runs: Sequence[ModelRun], *, whole: bool) -> None:
    """Refuse a tokenizer.json that cuts texts in another way than the original tokenizer.

    Generators are compared on the beginning of a text (not ``whole``), which may end in a token for its end.
    """
    for index, run in enumerate(runs):
        if not run.read:
            continue
        encodings = _encode(tokenizer, run.read)
        for name, ids in run.steps[0].inputs.items():
            if name not in _COLUMNS or not isinstance(ids, np.ndarray):
                continue
            mine = np.array([getattr(encoding, _COLUMNS[name]) for encoding in encodings], ids.dtype)
            begins = not whole and mine.shape[1] > ids.shape[1]
            if (
                not np.array_equal(mine[:, : ids.shape[1] - 1], ids[:, :-1])
                if begins
                else not np.array_equal(mine, ids)
            ):
                raise IncompleteError(
                    f"tokenizer.json does not give the {name} of the original tokenizer for "
                    f"{quoted_input(run.text, index)}.",
                    "The version would answer differently in a runtime without transformers.",
                )


def _padded(
    variant: OpenVariant, tokenizer: Any, runs: Sequence[ModelRun]
) -> tuple[list[Array], list[Mapping[str, Array]]]:
    """Padding must not matter: a text in a batch of others must answer as the original does alone.

    Outputs by token are cut to the text's own tokens.

    Returns:
        The answers, and what is compared besides.
    """
    answers: list[Any] = [None] * len(runs)
    beside: list[Any] = [None] * len(runs)
    # By length, so that little is computed for padding alone.
    lengths = [next(iter(run.steps[0].inputs.values())).shape[1] for run in runs]  # type: ignore[union-attr]
    order = sorted(range(len(runs)), key=lengths.__getitem__)
    for begin in range(0, len(order), _PADDED):
        indices = order[begin : begin + _PADDED]
        step = runs[0].steps[0]
        encodings = _encode(tokenizer, [sample for index in indices for sample in runs[index].read])
        inputs = {
            name: np.array([getattr(encoding, _COLUMNS[name]) for encoding in encodings], np.int64)
            for name in step.inputs
        }
        (outputs,) = variant.run([type(step)(step.graph, inputs)])
        for number, (index, encoding) in enumerate(zip(indices, encodings, strict=True)):
            run = runs[index]
            read = np.array(encoding.attention_mask, bool)
            own: Any = read if run.answer.values.ndim > 1 else ...
            answers[index] = answer_of([outputs[one.output][number][own] for one in run.outputs], run)
            # Some leave out the first tokens.
            beside[index] = {
                name: outputs[name][number][read[len(read) - len(outputs[name][number]) :]]
                for name in run.answer.beside
            }
    return answers, beside


def _take_worse(
    metrics: dict[str, float],
    worst: dict[str, tuple[int, float]],
    others: dict[str, float],
    others_worst: dict[str, tuple[int, float]],
) -> None:
    """The worse figure of two comparisons counts, such as alone and padded."""
    for name, value in others.items():
        if name not in metrics or ((value > metrics[name]) == (METRICS[name] == "<=") and value != metrics[name]):
            metrics[name] = value
            if name in others_worst:
                worst[name] = others_worst[name]


if __name__ == "__main__":
    serve(work, VerifyRequest)
