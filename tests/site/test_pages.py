"""The pages of a registry with everything in it that pages have to say, without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from modeldrop.format.channel import Channel
from modeldrop.format.diff import Facts, diff, differences
from modeldrop.format.names import NAME
from modeldrop.site.document import CHUNK, read_chunk, read_model_rows
from modeldrop.site.places import SITE_FOLDER, FolderPlace, RegistryPlace
from modeldrop.site.reading import KnownChannel
from modeldrop.site.series import time_line
from modeldrop.site.writing import Written, write_site
from modeldrop.storage.write.folder import FolderStore
from tests.format import examples
from tests.helpers.eventful_registry import make_eventful_registry
from tests.helpers.html_pages import Page
from tests.helpers.paper_registry import (
    CountingStore,
    add_paper_version,
    make_paper_registry,
    paper_manifest,
)

POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_eventful_registry(tmp_path_factory.mktemp("site") / "registry")


@pytest.fixture(scope="module")
def site(registry: Path) -> Path:
    write_site(FolderStore(str(registry)), FolderPlace(registry.parent / "pages"))
    return registry.parent / "pages"


def test_of_moves_that_are_close_the_newest_has_its_label() -> None:
    moves = examples.channel().moves()
    moments = ("2026-01-03T00:00:00Z", "2026-01-02T23:59:00Z", "2026-01-01T00:00:00Z")  # the newest first
    newest, *older = (move._replace(at=at) for move, at in zip(moves, moments, strict=True))
    line = time_line([KnownChannel("current", Channel(newest, tuple(older)), "", "")])
    assert line is not None
    [lane] = line.lanes
    labels = [label for label, _, _ in lane.moves]
    assert labels == [f"v{moves[2].version}", "", f"v{moves[0].version}"]


def page(site: Path, path: str) -> Page:
    return Page((site / path).read_bytes())


def test_no_page_loads_or_runs_anything_but_its_own(site: Path) -> None:
    pages = [path for path in sorted(site.rglob("*.html")) if path.is_file()]
    assert len(pages) > 60
    for path in pages:
        read = Page(path.read_bytes())
        policies = [value for tag, name, value in read.attributes if name == "content" and "default-src" in value]
        assert policies == [POLICY]
        assert not read.tags & {"style", "img", "iframe", "object", "embed", "base", "form", "use"}
        assert path.read_bytes().count(b"<script") == (2 if path == site / "index.html" else 1)
        for tag, name, value in read.attributes:
            assert name != "style", (path, tag)
            assert not name.startswith("on"), (path, tag, name)
            if name in {"src", "href"}:
                assert _leads_somewhere(site, path, tag, value), (path, tag, value)


def _leads_somewhere(site: Path, path: Path, tag: str, address: str) -> bool:
    if tag == "a" and address.startswith(("https://", "#")):
        return True
    if address == "data:,":  # no icon
        return True
    target = (path.parent / unquote(address.partition("?")[0])).resolve()
    return target.is_file() and target.is_relative_to(site.resolve())


def test_texts_of_others_stay_texts(site: Path) -> None:
    data = (site / "m/hostile/v1.html").read_bytes()
    assert b"&lt;script&gt;alert(1)" in data
    assert b"<script>alert" not in data
    values = [value for _, _, value in Page(data).attributes]
    assert not [value for value in values if value.startswith("javascript")]
    _, _, remembered = (site / "index.html").read_text().partition('id="models">')
    assert "<" not in remembered.partition("</script>")[0]
    assert b"&lt;script&gt;alert(1)" in (site / "m/model-000/index.html").read_bytes()
    script = (site / "m/hostile/data-1.js").read_bytes()
    assert script.isascii()
    assert script.startswith(b"modeldropVersions({")
    assert script.count(b"\n") == 1


def test_the_registry_s_page_names_what_is_wrong_and_shows_the_rest(site: Path) -> None:
    text = page(site, "index.html").text
    assert "3 models need a look" in text
    assert "model-000 : Damaged: v8." in text
    assert "damaged : The channel current cannot be read:" in text
    assert "astray : current names v1, which is unfinished." in text
    rows = read_model_rows((site / "index.html").read_bytes(), "index.html")
    assert rows["model-000"].live == 50
    assert rows["model-000"].newest == 53
    assert rows["model-000"].channels == {"current": 53, "staging": 53}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (51, ["Its own test rejected this version", "Only promote moves a channel to it"]),
        (6, ["Retired", "not among the newest", "modeldrop fetch"]),
        (7, ["Sealed", "not among the newest 5", "2026-11-20 at 10:00 UTC"]),
        (8, ["Damaged", "model-000/v8/manifest.json"]),
        (9, ["Unfinished", "its publisher is at work, or has crashed"]),
        (53, ["current", "staging", "modeldrop rollback", "--from v53", "What changed since v52", "fp32 latency"]),
    ],
)
def test_a_version_s_page_says_what_it_is(site: Path, number: int, words: list[str]) -> None:
    text = page(site, f"m/model-000/v{number}.html").text
    for word in words:
        assert word in text, word


def test_a_version_s_page_says_each_fact_once(site: Path) -> None:
    read = (site / "m/model-000/v53.html").read_text()
    names = re.findall(r"<dt>(.*?)</dt>", read)
    assert "Run" in names
    assert len(names) == len(set(names))
    assert re.search(r'<dt>Run</dt><dd><a href="https://', read)


def test_a_version_is_compared_with_the_last_one_that_can_be_fetched(site: Path) -> None:
    assert "What changed since v6" in page(site, "m/model-000/v10.html").text


def test_a_chart_has_the_values_of_each_version_for_whoever_points_at_it(site: Path) -> None:
    data = (site / "m/model-000/index.html").read_text()
    assert "<title>v53: fp32 90.4 MB, int8 23.0 MB</title>" in data
    assert "<title>v53: fp32 2.9 ms, int8 2.2 ms</title>" in data
    assert "<title>v26: fp32 1.0000, int8 0.9905</title>" in data
    assert "<title>v25:" not in data


def test_a_version_s_page_shows_some_golden_cases_and_says_how_many_more_there_are(tmp_path: Path) -> None:
    manifest = paper_manifest(1)
    [case, *_] = manifest.golden.cases
    cases = tuple(case._replace(text=f"question {index} " + "?" * 60_000) for index in range(100))
    add_paper_version(
        tmp_path / "registry", "embedder", 1, manifest._replace(golden=manifest.golden._replace(cases=cases))
    )
    write_site(FolderStore(str(tmp_path / "registry")), FolderPlace(tmp_path / "pages"))
    shown = page(tmp_path / "pages", "m/embedder/v1.html").text
    assert "question 7 ???" in shown
    assert "question 8" not in shown
    assert "92 more are in the report" in shown
    assert "What each variant reached on them" in shown
    assert (tmp_path / "pages/m/embedder/v1.html").stat().st_size < 60_000


def test_old_versions_are_on_further_pages(site: Path) -> None:
    newest, older = page(site, "m/model-000/index.html"), page(site, "m/model-000/versions-1.html")
    assert "v26.html" in [value for _, name, value in newest.attributes if name == "href"]
    assert "v25.html" in [value for _, name, value in older.attributes if name == "href"]
    assert "v25.html" not in [value for _, name, value in newest.attributes if name == "href"]
    assert max(path.stat().st_size for path in site.rglob("*.html")) < 200_000


def test_what_the_pages_remember_gives_the_same_comparisons(site: Path) -> None:
    def remembered(number: int) -> object:
        chunk = (number - 1) // CHUNK + 1
        data = (site / f"m/model-000/data-{chunk}.js").read_bytes()
        return next(entry for entry in read_chunk(data, "") if entry.number == number).facts

    one, other = remembered(2), remembered(53)
    assert isinstance(one, Facts)
    assert isinstance(other, Facts)
    assert differences(one, other) == diff(paper_manifest(2), paper_manifest(53))


def test_beside_the_models_a_version_links_its_own_documents(registry: Path) -> None:
    store = FolderStore(str(registry))
    write_site(store, RegistryPlace(store))
    version = registry / "_site/m/model-000/v53.html"
    links = [value for tag, name, value in Page(version.read_bytes()).attributes if name == "href" and "/v53/" in value]
    assert [Path(link).name for link in links] == ["report.html", "bom.cdx.json", "manifest.json"]
    assert all((version.parent / link).is_file() for link in links)


def test_each_manifest_is_read_once_and_nothing_is_written_twice(tmp_path: Path) -> None:
    store = CountingStore(str(make_paper_registry(tmp_path / "registry", 2, 3)))
    pages = FolderPlace(tmp_path / "pages")
    written = write_site(store, pages)
    assert sorted(store.manifests) == sorted(set(store.manifests))
    assert len(store.manifests) == 6
    assert (written.models, written.versions) == (2, 6)
    assert write_site(store, FolderPlace(tmp_path / "pages")) == Written(2, 6, 0)


def test_an_empty_registry_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    write_site(FolderStore(str(tmp_path / "registry")), FolderPlace(tmp_path / "pages"))
    assert "No model yet" in page(tmp_path / "pages", "index.html").text


def test_no_model_can_stand_where_the_pages_are() -> None:
    assert not NAME.fullmatch(SITE_FOLDER)
