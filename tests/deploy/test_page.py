"""The page about deployments shows every example, and the images that there are."""

from __future__ import annotations

import re

from tests.deploy.example_files import DEPLOY, ROOT
from tests.docs.pages import links

PAGE = ROOT / "docs/deploy.md"


def test_the_page_leads_to_every_example() -> None:
    linked = {(PAGE.parent / link.partition("#")[0]).resolve() for link in links(PAGE) if "://" not in link}
    for folder in DEPLOY.iterdir():
        if folder.is_dir():
            assert folder in linked or any(path.parent == folder for path in linked), folder.name


def test_the_images_that_are_built_are_targets() -> None:
    targets = set(re.findall(r"--target (\w+)", PAGE.read_text("utf-8")))
    stages = set(re.findall(r"^FROM \S+ AS ([\w-]+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    assert targets == {"builder", "fetcher"} <= stages
