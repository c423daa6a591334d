from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings

from modeldrop.build.report import render
from modeldrop.format.manifest import Fidelity, Graph, Manifest, Speed, Tensor, Variant, Worst
from tests.format import examples
from tests.format.strategies import manifests

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;</style></title>$body\u202e\x01\ud800"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects what a page holds, and refuses tags that do not balance."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(data.decode())
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def _hostile(value: Any) -> Any:
    """``value`` with every text in it, keys included, replaced by one that attacks HTML."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, tuple):
        return tuple(_hostile(item) for item in value)
    if isinstance(value, dict):
        return {f"{key}{HOSTILE}": _hostile(item) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{name: _hostile(getattr(value, name)) for name in value.__dataclass_fields__})
    return value


def _fidelity(manifest: Manifest, index: int, fidelity: Fidelity) -> Manifest:
    variants = list(manifest.variants)
    variants[index] = replace(variants[index], fidelity=fidelity)
    return replace(manifest, variants=tuple(variants))


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
    turned = replace(manifest, toolchain=dict(sorted(manifest.toolchain.items(), reverse=True)))
    assert render(manifest) == render(examples.manifest()) == render(turned)


def test_hostile_text_is_escaped() -> None:
    manifest: Manifest = _hostile(examples.manifest())
    data = render(manifest)
    _harmless(data)
    assert data.count(b"<style>") == data.count(b"</style>") == data.count(b"</title>") == 1
    assert b"&lt;script&gt;" in data
    assert b"\x01" not in data
    assert b"$body" in data


def test_texts_choose_their_own_direction() -> None:
    assert b'<span dir="auto">' in render(examples.manifest())


@settings(max_examples=60, deadline=None)
@given(manifests())
def test_any_manifest_has_a_page(manifest: Manifest) -> None:
    data = render(manifest)
    _harmless(data)
    assert render(manifest) == data


def test_a_missed_threshold_is_the_headline() -> None:
    manifest = examples.manifest()
    int8 = manifest.variants[1].fidelity
    missed = _fidelity(manifest, 1, replace(int8, metrics={**int8.metrics, "cosine_min": 0.949_999_9}))
    page = Page(render(missed))
    assert "int8 is not faithful" in page.text
    assert "All variants faithful" not in page.text
    assert "✗ missed" in page.text
    assert "Lowest cosine similarity of int8 is 0.9499999, at least 0.95 was asked" in page.text
    # Never rounded to the other side of its threshold.
    assert "0.9499999" in page.text
    assert "0.9500" not in page.text


def test_what_was_not_measured_is_missed() -> None:
    manifest = examples.manifest()
    without = _fidelity(manifest, 1, replace(manifest.variants[1].fidelity, metrics={}))
    assert "int8 is not faithful" in Page(render(without)).text


def test_without_thresholds_nothing_is_claimed() -> None:
    manifest = examples.manifest()
    unasked = _fidelity(manifest, 1, replace(manifest.variants[1].fidelity, thresholds={}))
    page = Page(render(unasked))
    assert "faithful" in page.text
    assert "All variants faithful" not in page.text
    assert "No threshold was asked of int8" in page.text


def test_without_speed_there_is_no_latency() -> None:
    manifest = examples.manifest()
    slow = replace(
        manifest,
        original=replace(manifest.original, speed=None),
        variants=tuple(replace(variant, speed=None) for variant in manifest.variants),
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
        worst={"later": Worst("", value)},
        texts=0,
    )

    def absurd(variant: Variant) -> Variant:
        return replace(variant, fidelity=fidelity, speed=Speed(value, value))

    data = render(replace(manifest, variants=tuple(absurd(variant) for variant in manifest.variants)))
    _harmless(data)
    assert len(data) < 60_000


def test_a_model_of_several_graphs_that_sees_pictures() -> None:
    manifest = examples.manifest()
    first, *rest = manifest.variants
    tensor = Tensor("encoder_hidden_states", "float", ("batch", "length", "512"))
    path = "onnx/decoder_model_merged.onnx"
    graph = Graph("decoder_model_merged", path, (tensor,), (Tensor("logits", "float", ("batch", "7")),))
    several = replace(first, role="encoder_model", others=(graph,))
    source = replace(manifest.source, gated=True)
    page = _harmless(render(replace(manifest, task="image-classification", variants=(several, *rest), source=source)))
    for word in (
        "Latency of 32 pictures",
        f"{first.name}: {first.model}, {path}",
        f"{first.name}, decoder_model_merged",
        f"{first.name}, encoder_model",
        "encoder_hidden_states",
        "accepted on the Hub",
    ):
        assert word in page.text, word
    assert "one text" not in page.text
