"""Markdown files that benchmarks write their tables into, between two lines of their own."""

from __future__ import annotations

import sys
from pathlib import Path


def replace_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between the lines ``begin`` and ``end``; ends the program if they are not there once each."""
    before = path.read_text("utf-8")
    if before.count(begin) != 1 or before.count(end) != 1:
        sys.exit(f"{path} does not have the lines {begin} and {end} once each")
    head, _, rest = before.partition(begin)
    path.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}", "utf-8")
