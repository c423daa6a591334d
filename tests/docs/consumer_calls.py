"""The calls that docs/consumers.md shows, by the program they are for."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, read

PAGE = DOCS / "consumers.md"
_SECTION = re.compile(r"^### (\S+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(py|js)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def calls_of(program: str) -> list[str]:
    """The programs that its section shows; each takes ``folder`` and ``texts``."""
    sections = dict(_SECTION.findall(read(PAGE)))
    return [text for _, text in _BLOCK.findall(sections[program])]
