"""The page about deployments: its commands parse, its links lead somewhere, its ways are all shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.deploy.shown import DEPLOY, ROOT
from tests.deploy.test_examples import check_command
from tests.docs.test_storage import slug

PAGE = ROOT / "docs/deploy.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_IMAGE = re.compile(r"^docker run .* (modeldrop(?:-builder)?) (\w.*)$")


def shown() -> list[list[str]]:
    """The command lines of modeldrop in the page: those that images are given, and those in sentences."""
    text = PAGE.read_text("utf-8")
    lines = [line for _, block in _FENCE.findall(text) for line in block.splitlines()]
    found = [f"modeldrop {match[2]}" for line in lines if (match := _IMAGE.match(line))]
    found += [
        span for span in re.findall(r"`(modeldrop [^`\n]+)`", _FENCE.sub("", text)) if re.search(r" \S*[:/@]", span)
    ]
    return [shlex.split(line) for line in found]


def test_commands_parse() -> None:
    found = shown()
    assert {words[1] for words in found} == {"doctor", "fetch", "publish"}
    for words in found:
        check_command(words)


@pytest.mark.parametrize("page", [PAGE, DEPLOY / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))) if "://" not in link]
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        path = (page.parent / file).resolve()
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, link


def test_the_page_leads_to_every_example() -> None:
    linked = {(PAGE.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(PAGE.read_text("utf-8"))}
    for folder in DEPLOY.iterdir():
        if folder.is_dir():
            assert folder in linked or any(path.parent == folder for path in linked), folder.name


def test_the_images_that_are_built_are_targets() -> None:
    targets = set(re.findall(r"--target (\w+)", PAGE.read_text("utf-8")))
    stages = set(re.findall(r"^FROM \S+ AS ([\w-]+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    assert targets == {"builder", "fetcher"} <= stages
