"""The pages hang together: links lead somewhere, commands in sentences parse, every page is on the site."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from docs.repository_links import to_repository
from modeldrop import errors
from modeldrop.cli import COMMANDS
from modeldrop.fetcher.options import DEFAULT_TIMEOUT
from modeldrop.fetcher.watch.watcher import DEFAULT_INTERVAL
from modeldrop.storage.read.obstore_client import _CONNECT, _READ
from tests.docs.command_line import check_command
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, commands_in_sentences, forms_in_sentences, links, name_of, read

BESIDE = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
# What stands for something in the form of a command, and something that it may stand for.
_MEANT = {
    "REGISTRY": "s3://acme-models",
    "SOURCE": "org/name",
    "MODEL": "embedder",
    "REFERENCE": "embedder",
    "DESTINATION": "oci:./layout",
    "COMMAND": "fetch",
    "PROGRAM": "tei",
    "CMD": "true",
    "…": "embedder",
}


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_parse(page: Path) -> None:
    for line in commands_in_sentences(page) + forms_in_sentences(page):
        words = [_MEANT.get(word, word) for word in shlex.split(line)]
        if words[1:3] == ["fetch", "--help"]:
            continue
        if words[1] == "run" and "--" not in words:
            words += ["--", "true"]
        check_command(words)


@pytest.mark.parametrize("line", ["modeldrop fetsch x", "modeldrop fetch x --keeep 3", "modeldrop run x"])
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(line.split())


def test_every_command_is_told_of() -> None:
    text = "\n".join(read(page) for page in PAGES)
    assert [name for name in COMMANDS if f"`{name}" not in text and f"modeldrop {name}" not in text] == []


def test_every_page_is_on_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": ([\w/.-]+\.md)$", menu, re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    front = {path for path in DOCS.glob("*.md") if path.name != "index.md"}
    assert front - linked == set()


def test_on_the_site_what_is_not_a_page_is_in_the_repository() -> None:
    text = "[a](../README.md#more) [b](../../examples/demo) [c](../storage.md) [d](s3.md)"
    assert to_repository("[a](../README.md#more)", "runtime.md", "R") == "[a](R/blob/main/README.md#more)"
    expected = "[b](R/tree/main/examples/demo) [c](../storage.md) [d](s3.md)"
    assert to_repository(text.partition(") ")[2], "storage/s3.md", "R") == expected
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        to_repository("[x](../nothing-here)", "runtime.md", "R")


def test_a_comparison_can_be_checked() -> None:
    """Each row links to the other's own documentation, and what is said of modeldrop to a page that says more."""
    rows = [line.strip("| ").split(" | ") for line in read(DOCS / "comparison.md").splitlines() if " | " in line]
    compared = [row for row in rows if len(row) == 3 and not row[0].startswith("---")]
    assert len(compared) >= 7
    for name, _, differs in compared:
        assert "](https://" in name, name
        assert re.search(r"\]\([\w/-]+\.md", differs), name


def test_every_exit_code_is_in_the_table() -> None:
    table = read(DOCS / "commands.md").partition("## Exit codes")[2].partition("## ")[0]
    shown = [int(code) for code in re.findall(r"\| (\d+) \|", table)]
    expected = {0} | {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert sorted(shown) == sorted(expected)


def test_what_runtime_says_of_limits_is_what_holds() -> None:
    text = " ".join(read(DOCS / "runtime.md").split())
    assert f"{_CONNECT[:-1]} seconds to connect, {_READ[:-1]} for a stall" in text
    assert f"`--timeout` ({DEFAULT_TIMEOUT / 60:g} minutes)" in text
    assert f"per interval ({DEFAULT_INTERVAL:g} s" in text
