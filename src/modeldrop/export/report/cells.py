"""The tag ``td``: a cell of a table. A page has hundreds, and a macro takes ten times as long as the text it gives.

    {% td "Size", "n", file.size|size, "4 bytes each", *others %}

The column's name, which narrow screens show beside the value; CSS classes; the value; and remarks below it, of which
empty ones are left out. What is constant of it becomes part of the template's own text when that is compiled.
"""

from __future__ import annotations

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser


class Cells(Extension):
    """Puts what a cell consists of in place of each tag, as if the template had it written out there."""

    tags = {"td"}  # noqa: RUF012  as Jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes of one cell."""
        line = next(parser.stream).lineno
        column = parser.parse_expression()
        parser.stream.expect("comma")
        css = parser.parse_expression()
        parser.stream.expect("comma")
        value = parser.parse_expression()
        made: list[nodes.Node] = [_output(line, '<td class="', css, '" data-label="', column, '"><div>', value)]
        while parser.stream.skip_if("comma"):
            several = parser.stream.skip_if("mul")
            remark = parser.parse_expression()
            made.append(_remarks(line, remark) if several else _remark(line, remark))
        return [*made, _output(line, "</div></td>\n")]


def _output(line: int, *parts: str | nodes.Expr) -> nodes.Output:
    return nodes.Output(
        [nodes.TemplateData(part, lineno=line) if isinstance(part, str) else part for part in parts], lineno=line
    )


def _remark(line: int, remark: nodes.Expr) -> nodes.Node:
    said = nodes.Name("remark", "load", lineno=line)
    shown = nodes.If(said, [_output(line, "<small>", said, "</small>")], [], [], lineno=line)
    return nodes.With([nodes.Name("remark", "param", lineno=line)], [remark], [shown], lineno=line)


def _remarks(line: int, remarks: nodes.Expr) -> nodes.Node:
    one = nodes.Name("one", "store", lineno=line)
    body: list[nodes.Node] = [_remark(line, nodes.Name("one", "load", lineno=line))]
    return nodes.For(one, remarks, body, [], None, False, lineno=line)
