"""How a build compares with what a channel names, in Markdown: the part of the summary for whoever reviews it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modeldrop.action.markdown import markdown_code, markdown_table, markdown_text
from modeldrop.export.messages import ChangedAnswer
from modeldrop.export.report import formatting
from modeldrop.publishing.comparison import BuildComparison, VariantChange
from modeldrop.util.text import latency_text, size_text

_MAX_TEXT = 120
_MAX_ANSWERS = 8
_ALIKE = 1e-6


def comparison_markdown(comparison: BuildComparison, inputs: tuple[str, str], *, show_inputs: bool) -> str:
    """The comparison.

    Args:
        comparison: it.
        inputs: what one input of the model is called, and several.
        show_inputs: whether texts of the user's own inputs may be shown; built-in ones may.
    """
    channel = markdown_code(comparison.channel)
    if not comparison.version:
        return f"### Compared with {channel}\n\nNothing to compare with: there is no channel of that name."
    title = f"### Compared with {channel}, {comparison.version}"
    if comparison.before == comparison.after:
        return f"{title}\n\nThe same: {channel} names this build already."
    one, several = inputs
    rows = [_row(change) for change in comparison.variants]
    columns = ("variant", "size", f"1 {one}", f"32 {several}", "fidelity, each against its own original")
    measured = (
        "Latencies of both were measured in this job, in turn."
        if comparison.measured
        else "The latencies are those measured when each was built, perhaps on other machines."
    )
    parts = [title, markdown_table(columns, rows, right=(1, 2, 3)), measured, _answers(comparison, inputs, show_inputs)]
    parts += [f"> [!NOTE]\n> Not compared: {markdown_text(problem)}" for problem in comparison.problems]
    return "\n\n".join(part for part in parts if part)


def _row(change: VariantChange) -> tuple[str, ...]:
    before, after = change.before, change.after
    name = markdown_code(change.name)
    if after is None:
        return (f"{name}: no longer built", "", "", "", "")
    old = before.fidelity if before else {}
    cells = (
        _change(before.size if before else None, after.size, size_text, formatting.smaller),
        _change(before.one_ms if before else None, after.one_ms, latency_text, formatting.faster),
        _change(before.batch_ms if before else None, after.batch_ms, latency_text, formatting.faster),
    )
    metrics = dict.fromkeys((*after.fidelity, *old))
    fidelity = [
        f"{markdown_text(metric)} {_change(old.get(metric), after.fidelity.get(metric), _figure)}" for metric in metrics
    ]
    return (name if before else f"{name}: new", *cells, "<br>".join(fidelity))


def _change(
    before: float | None,
    after: float | None,
    show: Callable[[float], str],
    words: Callable[[int, int], str] | Callable[[float, float], str] | None = None,
) -> str:
    """``2.1 ms → 1.4 ms (1.5× faster)``; one figure where both look the same, or there is one."""
    known = [value for value in (before, after) if value is not None]
    shown = list(dict.fromkeys(show(value) for value in known))
    if before is None or after is None:
        return "–" if not shown else f"{shown[0]} → –" if after is None else shown[0]
    if len(shown) == 1:
        return shown[0]
    said = words(after, before) if words else ""  # type: ignore[arg-type]
    return f"{shown[0]} → {shown[1]}" + (f" ({said})" if said else "")


def _figure(value: float) -> str:
    return formatting.number(value, 5)


def _answers(comparison: BuildComparison, inputs: tuple[str, str], show_inputs: bool) -> str:  # noqa: FBT001
    if not comparison.inputs or not comparison.answers:
        return ""
    asked = formatting.counted(comparison.inputs, *inputs)
    changed = [answer for answer in comparison.answers if answer.difference > _ALIKE]
    if not changed:
        return f"Both give the same answers to {asked}."
    shown = sorted(changed, key=lambda one: -one.difference)[:_MAX_ANSWERS]
    quoted = show_inputs or not comparison.own_inputs
    rows = [
        (markdown_code(one.variant), _text(one, inputs[0], quoted=quoted), _figure(one.difference), *_said(one))
        for one in shown
    ]
    table = markdown_table(("variant", inputs[0], "difference", "before", "after"), rows, right=(2,))
    hidden = "" if quoted else " Your own inputs are shown by their numbers: `show-inputs: true` shows their texts."
    return f"<details><summary>The answers that differ most, of {asked}</summary>\n\n{table}\n\n{hidden}\n\n</details>"


def _text(answer: ChangedAnswer, one: str, *, quoted: bool) -> str:
    if not quoted:
        return f"{one} {answer.number}"
    text = answer.text
    return markdown_text(text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…")


def _said(answer: ChangedAnswer) -> Sequence[str]:
    return [markdown_text(answer.before), markdown_text(answer.after)]
