"""The blocks that the page is made of, as HTML. They take plain text, except where an argument is called ``html``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modeldrop.export.report.formatting import text


def section(title: str, note: str, html: str) -> str:
    """A part of the page under its heading."""
    lead = f'<p class="note">{text(note)}</p>' if note else ""
    return f"<section>\n<h2>{text(title)}</h2>\n{lead}\n{html}\n</section>"


def table(columns: Sequence[str], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """A table; a row's cells are pairs of a CSS class and HTML. Narrow screens show rows as blocks."""
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{css}" data-label="{text(column)}"><div>{html}</div></td>'
            for column, (css, html) in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="card scroll whole"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def definitions(pairs: Iterable[tuple[str, str, str]]) -> str:
    """A list of facts: name, CSS classes, value; empty values are left out."""
    items = "\n".join(
        f'<div class="{css}"><dt>{text(name)}</dt><dd>{text(value)}</dd></div>' for name, css, value in pairs if value
    )
    return f'<div class="card whole"><dl class="facts">\n{items}\n</dl></div>'


def small(*lines: str) -> str:
    """Remarks below a value, a line each; empty ones are left out."""
    return "".join(f"<small>{text(line)}</small>" for line in lines if line)
