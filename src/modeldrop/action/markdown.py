"""Markdown made of escaped values, none of which can become markup or a link.

Everything from outside (names, messages, figures) goes through ``markdown_text`` or ``markdown_code``.
"""

from __future__ import annotations

from collections.abc import Sequence

_ESCAPED = {char: f"\\{char}" for char in "!#$()*+-.:=@[\\]^_`{|}~"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MAX_TEXT = 2000


def markdown_text(value: str) -> str:
    """A text of others as Markdown that shows just this text, in one line."""
    cut = value if len(value) <= _MAX_TEXT else f"{value[: _MAX_TEXT - 1]}…"
    return "".join(_ESCAPED.get(char, char) if char.isprintable() else " " for char in cut)


def markdown_code(value: str) -> str:
    """The same in the type of code."""
    return f"<code>{markdown_text(value)}</code>" if value else ""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table of cells that are Markdown; the columns ``right`` are set flush right."""
    ruler = ["---:" if column in right else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ruler, *rows))


def markdown_quote(message: str) -> str:
    """The lines of a text as a quotation."""
    return "\n".join(f"> {markdown_text(line.strip())}  " for line in message.splitlines()[:50])
