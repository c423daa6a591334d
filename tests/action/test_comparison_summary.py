from dataclasses import replace

from modeldrop.action.comparison_summary import comparison_markdown
from modeldrop.export.messages import ChangedAnswer
from modeldrop.publishing.comparison import BuildComparison, VariantChange, VariantFigures
from tests.helpers.markdown import EVIL, plain

SAID = "my secret text"
OLD = VariantFigures(size=23_000_000, one_ms=2.1, batch_ms=40.0, fidelity={"cosine_mean": 0.991, "accuracy": 0.5})
NEW = VariantFigures(size=11_500_000, one_ms=1.4, batch_ms=None, fidelity={"cosine_mean": 0.995, "recall": 0.25})
ANSWER = ChangedAnswer(variant="int8", number=3, text=SAID, difference=0.5, before="spam 0.910", after="ham 0.600")
COMPARISON = BuildComparison(
    channel="current",
    version="v7",
    before="sha256:1",
    after="sha256:2",
    variants=(VariantChange("int8", OLD, NEW), VariantChange("int4", None, OLD), VariantChange("fp32", OLD, None)),
    measured=True,
    inputs=12,
    answers=(ANSWER, replace(ANSWER, number=1, text="nearer", difference=0.0001)),
)


def shown(comparison: BuildComparison, *, show_inputs: bool = False) -> str:
    return plain(comparison_markdown(comparison, ("text", "texts"), show_inputs=show_inputs))


def test_every_figure_beside_the_one_before() -> None:
    text = shown(COMPARISON)
    assert "Compared with <code>current</code>, v7" in text
    assert "| 23.0 MB → 11.5 MB (2.0× smaller) | 2.1 ms → 1.4 ms (1.5× faster) | 40 ms → – |" in text
    assert "cosine_mean 0.99100 → 0.99500<br>recall 0.25000<br>accuracy 0.50000 → –" in text
    assert "<code>int4</code>: new" in text
    assert "<code>fp32</code>: no longer built" in text
    assert "measured in this job, in turn" in text
    assert "| <code>int8</code> | my secret text | 0.50000 | spam 0.910 | ham 0.600 |" in text
    assert text.index(SAID) < text.index("nearer")


def test_texts_of_the_users_own_are_shown_only_where_allowed() -> None:
    own = replace(COMPARISON, own_inputs=True)
    assert SAID not in shown(own)
    assert "| text 3 |" in shown(own)
    assert "show-inputs: true" in shown(own)
    assert SAID in shown(own, show_inputs=True)


def test_nothing_to_compare_with_and_what_could_not_be_compared() -> None:
    assert "there is no channel of that name" in shown(replace(COMPARISON, version=""))
    assert "names this build already" in shown(replace(COMPARISON, after="sha256:1"))
    unmeasured = shown(replace(COMPARISON, measured=False, inputs=0, answers=(), problems=("int8: it does not load",)))
    assert "perhaps on other machines" in unmeasured
    assert "> Not compared: int8: it does not load" in unmeasured
    assert "the same answers to 12 texts" in shown(replace(COMPARISON, answers=(replace(ANSWER, difference=0.0),)))


def test_nothing_from_outside_becomes_markup() -> None:
    answer = replace(ANSWER, text=EVIL, before=EVIL, after=EVIL)
    evil = replace(COMPARISON, channel=EVIL, answers=(answer,), problems=(EVIL,))
    text = comparison_markdown(evil, ("text", "texts"), show_inputs=True)
    assert "<img" not in text
    assert text.count("</details>") == 1
