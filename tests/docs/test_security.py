"""The page about security claims nothing that no test holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS, ROOT, read

PAGE = DOCS / "security.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def claims() -> Iterator[tuple[str, str]]:
    """What the rows of the tables claim, and what they say that holds it."""
    for line in read(PAGE).splitlines():
        if line.startswith("| ") and not line.startswith("| ---") and not line.endswith("| held by |"):
            first, *_, last = re.split(r" *\| *", line.strip("| "))
            yield first, last


def test_every_claim_says_what_holds_it() -> None:
    found = dict(claims())
    assert len(found) > 20
    assert [claim for claim, held in found.items() if not _TEST.search(held) and not held.startswith("nothing")] == []
    assert sum(held.startswith("nothing") for held in found.values()) <= 2


@pytest.mark.parametrize(("file", "name"), sorted(set(_TEST.findall(read(PAGE)))), ids=lambda value: value)
def test_what_is_said_to_hold_it_is_a_test(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
