"""Ask two versions of a model the same, and time them in turn, with onnxruntime and tokenizers alone.

Runs as ``python -m modeldrop.export.workers.compare REQUEST``; see ``messages.CompareRequest``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from modeldrop.export.messages import ChangedAnswer, CompareAnswer, CompareRequest, TimedVariant
from modeldrop.export.models.shared.timing import BATCH, TOKENS, medians_in_turn
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.golden import GoldenCase, GoldenChain, StepOutput
from modeldrop.format.manifest import Manifest, Variant, parse_manifest
from modeldrop.inference import open_variant
from modeldrop.inference.metrics import best_span, found_by_both, measure_of, transcript_likeness
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, OpenVariant, RunStep, from_case, from_golden, rows
from modeldrop.util.text import first_line

_KEPT, _SHOWN = 5, 4
_FAR = 1e9
_TOKENIZER = "tokenizer.json"
_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


@dataclass(frozen=True, slots=True)
class _Version:
    folder: Path
    manifest: Manifest

    @classmethod
    def read(cls, folder: Path) -> _Version:
        return cls(folder, parse_manifest((folder / "manifest.json").read_bytes()))

    @property
    def tokenizer(self) -> str:
        """The digest of tokenizer.json, "" where there is none."""
        return next((file.sha256 for file in self.manifest.files if file.path == _TOKENIZER), "")

    def open(self, name: str) -> tuple[Variant, OpenVariant] | None:
        """A variant, open; None where the version has none of that name."""
        variant = self.manifest.variant(name)
        return None if variant is None else (variant, open_variant(self.folder, variant.graphs))


@dataclass(frozen=True, slots=True)
class _SameInput:
    """An input, and how each version is asked it."""

    text: str
    before: Callable[[Variant, OpenVariant], ModelRun]
    after: Callable[[Variant, OpenVariant], ModelRun]


def work(request: CompareRequest, events: Events) -> CompareAnswer:
    """Compare the variants that both have, and time all of them."""
    before, after = _Version.read(request.before), _Version.read(request.after)
    inputs = _same_inputs(before, after, request.texts)
    events.inputs(len(inputs))
    names = list(dict.fromkeys(variant.name for version in (after, before) for variant in version.manifest.variants))
    latencies: tuple[dict[str, TimedVariant], ...] = ({}, {})
    answers: list[ChangedAnswer] = []
    problems = [] if inputs else ["the versions have no input in common that both can be asked"]
    for done, name in enumerate(names, 1):
        try:
            opened = [version.open(name) for version in (before, after)]
            asked = (
                [one.before(*opened[0]) if opened[0] else None for one in inputs],
                [one.after(*opened[1]) if opened[1] else None for one in inputs],
            )
            if inputs:
                _time(name, opened, asked, latencies)
            if inputs and opened[0] and opened[1]:
                found = _changed(name, before, after, inputs, opened, asked)
                answers += sorted(found, key=lambda one: -one.difference)[:_KEPT]
        except _IncomparableError as error:
            problems.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001  the libraries' errors have no common class
            problems.append(f"{name}: {first_line(error)}")
        events.progress(done, len(names))
    return CompareAnswer(
        inputs=len(inputs), before=latencies[0], after=latencies[1], answers=tuple(answers), problems=tuple(problems)
    )


class _IncomparableError(Exception):
    """Answers that are of different kinds."""


def _same_inputs(before: _Version, after: _Version, texts: Sequence[tuple[str, ...]]) -> list[_SameInput]:
    """What both versions can be asked: an encoder the texts, as its own tokenizer cuts them; others known inputs.

    A known input that both have the same name for is asked each as it was made for it. Of models that write, and of
    what one version alone knows, the very numbers are asked that one has, which mean the same to both only if their
    tokenizers are the same.
    """
    if texts and all(version.manifest.golden.cases and version.tokenizer for version in (before, after)):
        one, other = (_encoder(version) for version in (before, after))
        return [_SameInput(" \u2192 ".join(text), partial(one, text), partial(other, text)) for text in texts]
    mine, its = _known(before), _known(after)
    same_tokens = before.tokenizer == after.tokenizer
    inputs = []
    for text in dict.fromkeys((*its, *mine)):
        first, second = mine.get(text), its.get(text)
        written = any(isinstance(known, GoldenChain) and known.targets for known in (first, second))
        if first is None or second is None or written:
            known = second or first
            if known is None or not same_tokens:
                continue
            first = second = known
        inputs.append(_SameInput(text, partial(_known_run, before, first), partial(_known_run, after, second)))
    return inputs


def _known(version: _Version) -> dict[str, GoldenCase | GoldenChain]:
    golden = version.manifest.golden
    return {one.text: one for one in golden.cases} | {one.text: one for one in golden.chains}


def _known_run(version: _Version, known: GoldenCase | GoldenChain, variant: Variant, opened: OpenVariant) -> ModelRun:
    if isinstance(known, GoldenChain):
        return from_golden(known)
    wanted = opened.dtypes(variant.role)
    asked = {name: ids for name, ids in known.inputs.items() if name in wanted}
    return from_case(known._replace(inputs=asked), version.manifest.golden.output, variant.role, wanted)


def _encoder(version: _Version) -> Callable[[tuple[str, ...], Variant, OpenVariant], ModelRun]:
    import tokenizers  # pictures and sound need none

    tokenizer = tokenizers.Tokenizer.from_file(str(version.folder / _TOKENIZER))
    prompt = version.manifest.embedding.prompt if version.manifest.embedding else ""
    output = StepOutput(0, version.manifest.golden.output)

    def run(text: tuple[str, ...], variant: Variant, opened: OpenVariant) -> ModelRun:
        encoding = tokenizer.encode(f"{prompt}{text[0]}", *text[1:])
        inputs = {
            name: np.array([getattr(encoding, _COLUMNS[name])], dtype)
            for name, dtype in opened.dtypes(variant.role).items()
            if name in _COLUMNS
        }
        return ModelRun("", (RunStep(variant.role, inputs),), (output,), ModelAnswer(np.zeros(0)))

    return run


def _changed(
    name: str,
    before: _Version,
    after: _Version,
    inputs: Sequence[_SameInput],
    opened: Sequence[tuple[Variant, OpenVariant] | None],
    asked: Sequence[Sequence[ModelRun | None]],
) -> list[ChangedAnswer]:
    answers = []
    for number, (same, *runs) in enumerate(zip(inputs, *asked, strict=True), 1):
        pair = [_answer(one[1], run) for one, run in zip(opened, runs, strict=True) if one and run]
        difference, *said = compare_answers(before.manifest, after.manifest, *pair)
        answers.append(
            ChangedAnswer(
                variant=name,
                number=number,
                text=same.text[:200],
                difference=difference,
                before=said[0],
                after=said[1],
            )
        )
    return answers


def _answer(variant: OpenVariant, run: ModelRun) -> Array:
    for step in run.steps:
        if lacking := variant.lacking(step):
            raise _IncomparableError(f"its graph wants inputs that the other version's has not: {', '.join(lacking)}")
    return np.asarray(variant.answer(run), np.float64)


def compare_answers(one: Manifest, other: Manifest, before: Array, after: Array) -> tuple[float, str, str]:
    """How far two answers are apart, and both in a few words.

    Raises:
        _IncomparableError: they are of different kinds, or no numbers.
    """
    width = (before.shape[-1:], after.shape[-1:])
    if before.ndim != after.ndim or width[0] != width[1]:
        raise _IncomparableError(f"it answers {_shape(after)} numbers where the other version answers {_shape(before)}")
    if before.shape != after.shape:  # another tokenizer cuts a text into other tokens: their mean is compared
        before, after = (rows([side]).reshape(-1, side.shape[-1]).mean(0) for side in (before, after))
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        bad = ["no numbers" if not np.isfinite(side).all() else "" for side in (before, after)]
        return _FAR, bad[0], bad[1]
    measure = measure_of(other.task, after.shape, other.problem)
    if measure in {"score", "targets"}:
        mine, its = (", ".join(f"{value:.4g}" for value in side.ravel()[:_SHOWN]) for side in (before, after))
        return float(np.abs(after - before).max()), mine, its
    far = 1 - _cosine(before, after)
    if measure == "labels":
        turned = int(((before > 0) != (after > 0)).sum())
        text = f"{turned} of {after.size} labels are decided otherwise" if turned else "the same labels"
        return turned + far, "", text
    if measure == "classes":
        return _classes(one.labels, other.labels, before, after)
    if measure == "frames":
        like = transcript_likeness(before, after)
        return 1 - like + far, "", "the same letters" if like == 1 else f"{1 - like:.0%} of the letters are others"
    if measure.startswith("boxes"):
        both = found_by_both(before, after, nothing=measure != "boxes")[0]
        return 1 - both, "", "the same things found" if both == 1 else f"{both:.0%} of the things found are the same"
    if measure == "spans":
        same = best_span(before) == best_span(after)
        return far + (not same), "", "the same answer" if same else "another answer"
    if measure == "tokens":
        changed = before.reshape(-1, width[0][0]).argmax(-1) != after.reshape(-1, width[0][0]).argmax(-1)
        said = f"{int(changed.sum())} of {changed.size} tokens are others" if changed.any() else "the same tokens"
        return float(changed.mean()) + far, "", said
    return far, "", ""


def _classes(labels: Sequence[str], other_labels: Sequence[str], before: Array, after: Array) -> tuple[float, str, str]:
    """By the probabilities of labels: how much of it has moved, and the best label of each side."""
    one, other = (_softmax(side) for side in (before, after))
    moved = float(np.abs(one - other).sum(-1).mean()) / 2
    best = one.argmax(-1), other.argmax(-1)
    if one.ndim > 1:
        changed = int((best[0] != best[1]).sum())
        return moved + changed, "", f"{changed} of {best[0].size} labels are others" if changed else "the same labels"
    said = [
        f"{names[index] if index < len(names) else index} {side[index]:.3f}"
        for names, side, index in zip((labels, other_labels), (one, other), map(int, best), strict=True)
    ]
    return moved + float(best[0] != best[1]), said[0], said[1]


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    shares: Array = powers / powers.sum(-1, keepdims=True)
    return shares


def _cosine(one: Array, other: Array) -> float:
    one, other = (side.reshape(-1, side.shape[-1]) for side in (one, other))
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    products = (one * other).sum(-1)
    return float(np.where(norms > 0, products / np.where(norms > 0, norms, 1), 1.0).mean())


def _shape(answer: Array) -> str:
    return "×".join(map(str, answer.shape))


def _time(
    name: str,
    opened: Sequence[tuple[Variant, OpenVariant] | None],
    asked: Sequence[Sequence[ModelRun | None]],
    latencies: Sequence[dict[str, TimedVariant]],
) -> None:
    """Time a variant of both versions in turn, on the longest input, cut to 32 tokens, alone and 32 times."""
    sides = [side for side, one in enumerate(opened) if one is not None]
    longest = max(range(len(asked[sides[0]])), key=lambda index: _length(asked[sides[0]][index]))
    measured: list[list[float]] = []
    for copies in (1, BATCH):
        try:
            steps = [_copied(asked[side][longest], copies) for side in sides]
            measured.append(medians_in_turn([_call(opened[side], own) for side, own in zip(sides, steps, strict=True)]))
        except Exception:
            if copies == 1:
                raise
    for index, side in enumerate(sides):
        latencies[side][name] = TimedVariant(*(medians[index] for medians in measured))


def _call(opened: tuple[Variant, OpenVariant] | None, steps: Sequence[RunStep]) -> Callable[[], object]:
    assert opened is not None  # noqa: S101  the sides that have the variant
    return lambda: opened[1].run(steps)


def _length(run: ModelRun | None) -> int:
    inputs = _texts(run.steps[0].inputs) if run else {}
    return min((array.shape[1] for array in inputs.values()), default=0)


def _texts(inputs: Mapping[str, Array | StepOutput]) -> dict[str, Array]:
    return {
        name: array
        for name, array in inputs.items()
        if name in _COLUMNS and isinstance(array, np.ndarray) and array.ndim > 1
    }


def _copied(run: ModelRun | None, copies: int) -> Sequence[RunStep]:
    """The steps of a run; of one step, with as many copies of its input in a batch. Not every graph takes several."""
    assert run is not None  # noqa: S101  of a side that has the variant
    if len(run.steps) > 1:
        if copies > 1:
            raise _IncomparableError("several steps")
        return run.steps
    (step,) = run.steps
    inputs = {name: array[:, :TOKENS] if name in _texts(step.inputs) else array for name, array in _arrays(step)}
    return [replace(step, inputs={name: np.repeat(array, copies, axis=0) for name, array in inputs.items()})]


def _arrays(step: RunStep) -> list[tuple[str, Array]]:
    return [(name, array) for name, array in step.inputs.items() if isinstance(array, np.ndarray)]


if __name__ == "__main__":
    serve(work, CompareRequest)
