import re
from pathlib import Path

import pytest

from modeldrop.action.markdown import markdown_code, markdown_text
from modeldrop.action.result import RegistryResult, RunFolder, RunResult, outputs_of
from modeldrop.action.summary import failure_markdown, summary_markdown
from modeldrop.format.manifest import Provenance, SearchStep, SourceInfo, Speed
from tests.format.examples import manifest
from tests.helpers.markdown import EVIL, plain

V2 = RegistryResult(
    url="s3://acme-models",
    version="v2",
    digest="sha256:" + "a" * 64,
    done="built",
    before="v1",
    after="v2",
    promotion="moved",
)


def test_a_text_of_others_is_shown_and_is_no_markup() -> None:
    shown = markdown_text(EVIL)
    assert plain(shown) == EVIL.replace("\n", " ")
    assert "\n" not in shown
    assert "<" not in shown
    assert not re.search(r"(?<!\\)[|#\[\]()`@!:]", shown)


def test_what_was_published_and_where_the_channel_points() -> None:
    summary = summary_markdown(RunResult("embedder", "current", registries=[V2], built=True), manifest())
    assert "<code>embedder</code>: published as v2" in summary
    assert "**v2** (was v1)" in summary
    assert "<pre>modeldrop fetch s3://acme-models/embedder\n" in summary
    assert f"modeldrop fetch s3://acme-models/embedder@v2@{V2.digest}" in summary
    assert "<details><summary>Provenance</summary>" in summary
    for variant in manifest().variants:
        assert f"| {markdown_code(variant.name)} |" in summary


def test_long_latencies_are_seconds_and_near_misses_look_like_misses() -> None:
    slow = manifest()
    variant = slow.variants[0]._replace(
        speed=Speed(2780.4, 45_678.0),
        fidelity=slow.variants[0].fidelity._replace(
            metrics={"cosine_mean": 0.9999996}, thresholds={"cosine_mean": 0.9999999}
        ),
    )
    original = slow.original._replace(speed=Speed(5560.8, 99_999.0))
    summary = summary_markdown(RunResult("m"), slow._replace(variants=(variant,), original=original))
    assert "| 5.56 s | 100 s |" in summary
    assert "| 2.78 s (2.0×) | 45.7 s (2.2×) |" in summary
    assert "0.9999996 ≥ 0.9999999" in plain(summary)


@pytest.mark.parametrize("promotion", ["held", "rejected"])
def test_what_was_wanted_and_not_done_stands_out(promotion: str) -> None:
    stays = RegistryResult("./r", "v3", done="built", before="v2", after="v2", promotion=promotion, reason="because")
    summary = summary_markdown(RunResult("m", "current", registries=[stays]), None)
    assert f"| **{promotion}**: stays at v2: because |" in summary


@pytest.mark.parametrize(
    ("became", "reason", "said"),
    [
        (["moved", "held"], "", "held"),
        (["unchanged", "moved"], "", "moved"),
        (["held", "rejected"], "", "rejected"),
        (["not-asked"], "promote: false moves no channel", "not-asked"),
        ([""], "this is a dry run", "not-asked"),
        ([""], "", ""),
    ],
)
def test_of_several_registries_the_one_that_most_needs_a_look(
    became: list[str], reason: str, said: str, tmp_path: Path
) -> None:
    registries = [RegistryResult("./r", promotion=promotion) for promotion in became]
    result = RunResult("m", reason=reason, registries=registries)
    assert outputs_of(result, RunFolder(tmp_path))["promotion"] == said


@pytest.mark.parametrize(
    ("source", "given", "said"),
    [("hf:acme/tiny@0123", "acme/tiny", "hf:acme/tiny@0123"), ("sha256:0123", "./checkpoint", "./checkpoint")],
)
def test_the_output_source_can_be_given_as_model(source: str, given: str, said: str, tmp_path: Path) -> None:
    assert outputs_of(RunResult("m", source=source, given=given), RunFolder(tmp_path))["source"] == said


@pytest.mark.parametrize(
    ("result", "headline"),
    [
        (RunResult("m"), "nothing was done"),
        (RunResult("m", would_build=True, registries=[RegistryResult("./r")]), "would be built"),
        (RunResult("m", would_build=True, built=True, registries=[RegistryResult("./r")]), "built, not published"),
        (RunResult("m", would_build=True, failure="no", registries=[RegistryResult("./r")]), "failed"),
        (RunResult("m", registries=[RegistryResult("./r", "v3")]), "unchanged, v3"),
        (RunResult("m", registries=[RegistryResult("./r", "v3", done="unchanged", after="v3")]), "unchanged, v3"),
        (RunResult("m", registries=[RegistryResult("./r", "v3", done="mirrored")]), "mirrored as v3"),
        (RunResult("m", registries=[RegistryResult("./r", "v3", done="built", tested=False)]), "rejected by its test"),
    ],
)
def test_the_headline(result: RunResult, headline: str) -> None:
    assert headline in summary_markdown(result, None).splitlines()[0]


def test_why_a_channel_stays() -> None:
    stays = RegistryResult("./r", "v3", done="built", before="v2", after="v2", reason="it was rolled back")
    summary = summary_markdown(RunResult("m", "current", registries=[stays]), None)
    assert "stays at v2: it was rolled back" in summary


def test_nothing_from_outside_becomes_markup() -> None:
    source = SourceInfo(EVIL, EVIL, EVIL, EVIL)
    evil = manifest()._replace(
        source=source,
        provenance=Provenance(created="now", repository=EVIL, commit=EVIL, run=EVIL, actor=EVIL),
        architecture=EVIL,
    )
    summary = summary_markdown(
        RunResult(
            EVIL, EVIL, source=EVIL, registries=[RegistryResult(EVIL, "v1", after="v1", reason=EVIL)], failure=EVIL
        ),
        evil,
    )
    assert "<img" not in summary
    assert "[x](" not in re.sub("<pre>.*?</pre>", "", summary, flags=re.DOTALL)  # there it is no Markdown
    assert summary.count("</details>") == 1
    tables = [line for line in summary.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} <= {3, 5, 6}


def test_a_failure_before_anything_is_known() -> None:
    assert failure_markdown("first\n  second").splitlines()[2:] == ["> [!CAUTION]", "> first  ", "> second  ", ""]


def test_what_was_measured_has_the_name_of_what_was_asked() -> None:
    result = RunResult("m", "current", registries=[V2], built=True)
    assert "| 1 text | 32 texts |" in summary_markdown(result, manifest())
    assert "| 1 picture | 32 pictures |" in summary_markdown(result, manifest()._replace(task="image-classification"))


def test_gated_terms_and_a_search_are_told() -> None:
    made = manifest()
    fp32, int8 = made.variants
    searched = int8._replace(search=(SearchStep("one way", 1, {}, holds=True),) * 3)
    gated = made._replace(source=made.source._replace(gated=True), variants=(fp32, searched))
    summary = plain(summary_markdown(RunResult("m", "current", registries=[V2], built=True), gated))
    assert "gated: to be accepted on the Hub" in summary
    assert "found in 3 tries" in summary
