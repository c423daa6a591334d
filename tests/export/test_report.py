from __future__ import annotations

import ast
import re
from html import unescape

import pytest
from hypothesis import given, settings
from jinja2 import TemplateSyntaxError
from markupsafe import Markup

from modeldrop.export.report import environment, render
from modeldrop.export.report.escaping import escaped
from modeldrop.format.labels import inputs_of
from modeldrop.format.manifest import Fidelity, Graph, Manifest, SearchStep, Speed, Tensor, Variant, WorstInput
from modeldrop.format.recipe import Threshold
from tests.format import examples
from tests.format.strategies import manifests
from tests.helpers.html_pages import HOSTILE, Page, hostile
from tests.helpers.rounds import rounds


def _fidelity(manifest: Manifest, index: int, fidelity: Fidelity) -> Manifest:
    variants = list(manifest.variants)
    variants[index] = variants[index]._replace(fidelity=fidelity)
    return manifest._replace(variants=tuple(variants))


def _harmless(data: bytes) -> Page:
    assert b"<script" not in data.lower()
    page = Page(data)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "use"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}:
            assert value.startswith("#"), (tag, name)
    assert not re.search(rb"url\(|@import", data)
    return page


def test_the_example() -> None:
    manifest = examples.manifest()
    page = _harmless(render(manifest))
    for word in (
        "All variants faithful",
        "sentence-transformers/all-MiniLM-L6-v2",
        "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        "apache-2.0",
        "feature-extraction",
        "https://github.com/acme/search/actions/runs/11902455871",
        "2026-11-20 at 09:41 UTC",
        "90.4 MB",
        "23.0 MB",
        "3.9× smaller",
        "1.8 ms",
        "123 ms",
        "3.1× faster than PyTorch",
        "1.4× faster than fp32",
        "0.9905",
        "≥ 0.98",
        "شحن الطلب تأخر ثلاثة أيام",
        "0.0518, -0.2315, 0.1190, 0.4410, …",
        "modeldrop fetch REGISTRY/MODEL --variant int8",
        "transformers",
    ):
        assert word in page.text, word
    assert page.text.strip().startswith("sentence-transformers/all-MiniLM-L6-v2 (BertModel)")


def test_every_file_is_listed_with_its_whole_digest() -> None:
    manifest = examples.manifest()
    page = Page(render(manifest))
    for file in manifest.files:
        assert file.path in page.text
        assert file.sha256 in page.text


def test_it_is_deterministic() -> None:
    manifest = examples.manifest()
    turned = manifest._replace(toolchain=dict(sorted(manifest.toolchain.items(), reverse=True)))
    assert render(manifest) == render(examples.manifest()) == render(turned)


def test_hostile_text_is_escaped() -> None:
    manifest: Manifest = hostile(examples.manifest())
    data = render(manifest)
    _harmless(data)
    assert data.count(b"<style>") == data.count(b"</style>") == data.count(b"</title>") == 1
    assert b"&lt;script&gt;" in data
    assert b"\x01" not in data
    assert b"$body" in data


def test_texts_choose_their_own_direction() -> None:
    assert b'<span dir="auto">' in render(examples.manifest())


@settings(max_examples=rounds(30, 600))
@given(manifests())
def test_any_manifest_has_a_page(manifest: Manifest) -> None:
    data = render(manifest)
    _harmless(data)
    assert render(manifest) == data


def test_a_missed_threshold_is_the_headline() -> None:
    manifest = examples.manifest()
    int8 = manifest.variants[1].fidelity
    missed = _fidelity(manifest, 1, int8._replace(metrics={**int8.metrics, "cosine_min": 0.949_999_9}))
    page = Page(render(missed))
    assert "int8 is not faithful" in page.text
    assert "All variants faithful" not in page.text
    assert "✗ missed" in page.text
    assert "Lowest cosine similarity of int8 is 0.9499999; at least 0.95 is required" in page.text
    # Never rounded to the other side of its threshold.
    assert "0.9499999" in page.text
    assert "0.9500" not in page.text


def test_what_was_not_measured_is_missed() -> None:
    manifest = examples.manifest()
    without = _fidelity(manifest, 1, manifest.variants[1].fidelity._replace(metrics={}))
    assert "int8 is not faithful" in Page(render(without)).text


def test_without_thresholds_nothing_is_claimed() -> None:
    manifest = examples.manifest()
    unasked = _fidelity(manifest, 1, manifest.variants[1].fidelity._replace(thresholds={}))
    page = Page(render(unasked))
    assert "faithful" in page.text
    assert "All variants faithful" not in page.text
    assert "No threshold is set for int8" in page.text


def test_without_speed_there_is_no_latency() -> None:
    manifest = examples.manifest()
    slow = manifest._replace(
        original=manifest.original._replace(speed=None),
        variants=tuple(variant._replace(speed=None) for variant in manifest.variants),
    )
    page = _harmless(render(slow))
    assert "Latency" not in page.text
    assert "faster" not in page.text


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-300, 1e300, 1.7e308])
def test_absurd_figures_have_a_page(value: float) -> None:
    manifest = examples.manifest()
    fidelity = Fidelity(
        metrics={"cosine_mean": value, "max_abs": value, "later": value},
        thresholds={"cosine_mean": -value, "max_abs": -value, "later": value},
        worst={"later": WorstInput("", value)},
        texts=0,
    )

    def absurd(variant: Variant) -> Variant:
        return variant._replace(fidelity=fidelity, speed=Speed(value, value))

    data = render(manifest._replace(variants=tuple(absurd(variant) for variant in manifest.variants)))
    _harmless(data)
    assert len(data) < 60_000


def test_a_model_of_several_graphs_that_sees_pictures() -> None:
    manifest = examples.manifest()
    first, *rest = manifest.variants
    tensor = Tensor("encoder_hidden_states", "float", ("batch", "length", "512"))
    path = "onnx/decoder_model_merged.onnx"
    past = tuple(Tensor(f"past_key_values.{layer}.key", "float", ("batch", "64")) for layer in range(3))
    graph = Graph("decoder_model_merged", path, (tensor, *past), (Tensor("logits", "float", ("batch", "7")),))
    several = first._replace(role="encoder_model", others=(graph,))
    source = manifest.source._replace(gated=True)
    page = _harmless(render(manifest._replace(task="image-classification", variants=(several, *rest), source=source)))
    for word in (
        "Latency of 32 pictures",
        f"{first.name}: {first.model}, {path}",
        f"decoder_model_merged of {first.name}",
        f"encoder_model of {first.name}",
        "encoder_hidden_states",
        "past_key_values.0…2.key",
        "accepted on the Hub",
    ):
        assert word in page.text, word
    assert "one text" not in page.text
    opened = re.search(r'<pre dir="ltr">(import modeldrop.*?)</pre>', render(manifest).decode(), re.DOTALL)
    assert opened is not None
    ast.parse(unescape(opened[1]))


# --- the search for the smallest ---

TRIES = (
    SearchStep(
        "one scale per channel", 23_000_000, {"cosine_min": 0.96, "cosine_mean": 0.99, "max_abs": 0.2}, holds=False
    ),
    SearchStep(
        "one scale per tensor", 22_000_000, {"cosine_min": 0.5, "cosine_mean": 0.76, "max_abs": 0.4}, holds=False
    ),
    SearchStep(
        "one scale per channel, 8 layers kept", 29_000_000, {"cosine_min": 0.987, "cosine_mean": 0.994}, holds=True
    ),
    SearchStep(
        "one scale per channel, 4 layers kept", 25_000_000, {"cosine_min": 0.97, "cosine_mean": 0.991}, holds=True
    ),
)


def _searched(tries: tuple[SearchStep, ...], thresholds: dict[str, float] | None = None) -> Manifest:
    manifest = examples.manifest()
    fp32, int8 = manifest.variants
    asked = {"cosine_mean": 0.98, "cosine_min": 0.965} if thresholds is None else thresholds
    searched = int8._replace(search=tries, fidelity=int8.fidelity._replace(thresholds=asked))
    return manifest._replace(variants=(fp32, searched))


def _charts(data: bytes) -> list[list[dict[str, str]]]:
    """The points of the charts that have some."""
    drawn = [re.findall("<circle ([^>]*)/>", svg) for svg in re.findall("<svg .*?</svg>", data.decode(), re.DOTALL)]
    return [[dict(re.findall(r'(\w+)="([^"]*)"', point)) for point in points] for points in drawn if points]


def test_a_search_is_shown_as_its_path_and_as_a_curve() -> None:
    data = render(_searched(TRIES))
    page = _harmless(data)
    for word in (
        "The search for int8",
        "in 4 tries. Number 4 was taken.",
        "one scale per channel, 8 layers kept",
        "25.0 MB",
        "28% of the original",
        "✓ taken",
        "✓ holds",
    ):
        assert word in page.text, word
    # The metric that missed most comes first.
    assert page.text.index("Lowest cosine similarity", page.text.index("The search")) < page.text.rindex(
        "Mean cosine similarity"
    )
    charts = _charts(data)
    assert [len(points) for points in charts] == [4, 4]
    for points in charts:
        across = [float(point["cx"].rstrip("%")) for point in points]
        down = [float(point["cy"]) for point in points]
        assert sorted(range(4), key=across.__getitem__) == [1, 0, 3, 2]  # larger is further to the right
        assert sorted(range(4), key=down.__getitem__) == [2, 3, 0, 1]  # more faithful is further up
        assert [point["class"] for point in points] == ["missed", "missed", "variant", "taken"]
        assert all(0 < place < 100 for place in across)
    # The threshold's line parts what holds from what does not.
    (limit,) = re.findall(r'<line class="limit" x1="0" x2="100%" y1="([0-9.]+)"', data.decode())[:1]
    downs = [float(point["cy"]) for point in charts[0]]
    assert downs[3] < float(limit) < downs[0]


@pytest.mark.parametrize(
    "tries",
    [
        TRIES[:1],
        (TRIES[0]._replace(metrics={"cosine_min": 1.0, "cosine_mean": 1.0}, holds=True),),
        (TRIES[0]._replace(metrics={"cosine_min": -1e308, "cosine_mean": 1e308}), TRIES[1]),
        (TRIES[0]._replace(metrics={}), TRIES[1], TRIES[1]._replace(weights=0)),
        (TRIES[0]._replace(metrics={}, what=HOSTILE),),
    ],
    ids=["one", "perfect", "absurd", "unmeasured", "hostile"],
)
def test_any_search_has_a_page(tries: tuple[SearchStep, ...]) -> None:
    for asked in (None, {}, {"cosine_min": 1.0}, {"max_abs": 0.0}, {"later": 1.0}):
        data = render(_searched(tries, asked))
        assert "The search for int8" in _harmless(data).text
        assert not re.search(r'"(nan|inf|-)', data.decode().replace('"-1"', ""))


def test_a_search_that_found_nothing_says_so() -> None:
    assert "None meets them." in Page(render(_searched(TRIES[:2]))).text


# --- licence, environment, other runtimes, own metrics ---


def test_the_licence_and_its_terms_are_named() -> None:
    manifest = examples.manifest()
    assert "apache-2.0 · gated" in Page(render(manifest._replace(source=manifest.source._replace(gated=True)))).text
    nameless = manifest._replace(source=manifest.source._replace(licence=""))
    assert "none is named by the source" in Page(render(nameless)).text


def test_the_whole_environment_is_listed() -> None:
    manifest = examples.manifest()._replace(environment={"torch": "2.13.0", "modeldrop": "0.9", "onnx-ir": "1.1.0"})
    page = _harmless(render(manifest))
    for word in ("3 packages", "onnx-ir==1.1.0", "torch==2.13.0", "Made by modeldrop 0.9"):
        assert word in page.text, word


def test_openvino_is_not_opened_with_onnxruntime() -> None:
    manifest = examples.manifest()
    fp32, int8 = manifest.variants
    path = "openvino/openvino_model.xml"
    openvino = int8._replace(name="openvino-int8", model=path, files=(path,))
    file = manifest.files[0]._replace(path=path, size=1000)
    page = Page(
        render(
            manifest._replace(
                variants=(fp32, openvino),
                files=(*manifest.files, file),
                toolchain={**manifest.toolchain, "openvino": "2026.4.1"},
            )
        )
    )
    assert "OpenVINO made with 2026.4.1" in page.text
    assert 'openvino.compile_model(snapshot.model_file, "CPU")' in page.text
    assert "onnxruntime.InferenceSession" not in page.text


def test_what_is_asked_has_its_name() -> None:
    manifest = examples.manifest()
    assert inputs_of(manifest) == ("text", "texts")
    assert inputs_of(manifest._replace(task="automatic-speech-recognition")) == ("recording", "recordings")
    ordered = _fidelity(manifest, 1, Fidelity({"kendall_tau": 0.9}, {}, {}, 3))
    assert inputs_of(ordered) == ("text", "texts")
    cases = tuple(case._replace(text="where? \u2192 there") for case in manifest.golden.cases)
    pairs = ordered._replace(golden=manifest.golden._replace(cases=cases))
    assert inputs_of(pairs) == ("pair", "pairs")
    assert "Latency of 32 pairs" in Page(render(pairs)).text
    assert "with a few tokens written" in Page(render(manifest._replace(task="text-generation"))).text


def test_an_own_metric_is_judged_against_the_originals() -> None:
    manifest = examples.manifest()
    recipe = manifest.recipe._replace(
        metric="ours.py:f1", own_thresholds={"int8": {"f1": Threshold(">=", 99.0, relative=True)}}
    )
    measured = Fidelity({"f1": 0.895}, {"f1": 0.891}, {}, 3)
    page = Page(
        render(
            _fidelity(
                manifest._replace(recipe=recipe, original=manifest.original._replace(metrics={"f1": 0.9})), 1, measured
            )
        )
    )
    assert "f1 0.8950 the original has 0.9000 ≥ 0.891 56 % ✓ pass" in page.text


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("sha256:" + "a" * 64, "BertModel from a folder"),
        ("s3://acme/run-7@sha256:" + "a" * 64, "BertModel from s3://acme/run-7"),
        ("modeldrop:sha256:" + "a" * 64, "BertModel from an earlier version"),
    ],
)
def test_what_has_no_name_is_called_by_where_it_comes_from(identity: str, name: str) -> None:
    manifest = examples.manifest()
    source = manifest.source._replace(identity=identity, repository="", commit="")
    assert Page(render(manifest._replace(source=source))).text.strip().startswith(f"{name} (BertModel)")


def test_golden_cases_of_every_kind_are_shown_with_what_variants_reached() -> None:
    text = _harmless(render(examples.manifest_of_any_graphs())).text
    assert "row 1 of rows.csv" in text
    assert "nan, 0.5, -inf, 1.0" in text  # the main output's, which the first of two graphs gives
    assert "What each variant reached on them" in text
    assert "Same labels" in text


def test_html_stays_html_though_a_text_that_is_spelt_alike_was_escaped() -> None:
    assert escaped("<b>") == "&lt;b&gt;"
    assert escaped(Markup("<b>")) == "<b>"
    assert escaped(Markup("<b>") + "<i>") == "<b>&lt;i&gt;"
    assert escaped("<b>") == "&lt;b&gt;"
    assert [escaped(value) for value in (1, 0.5, None, "a\x01")] == ["1", "0.5", "None", "a␁"]


def test_a_cell_needs_a_column_classes_and_a_value() -> None:
    made = environment()
    cell = made.from_string('{% td "A" ~ "&", css, value, "", remark, *remarks %}')
    shown = cell.render(css='"', value="<b>", remark="one", remarks=["", "two"])
    assert shown == (
        '<td class="&#34;" data-label="A&amp;"><div>&lt;b&gt;<small>one</small><small>two</small></div></td>\n'
    )
    with pytest.raises(TemplateSyntaxError):
        made.from_string('{% td "A", "n" %}')
