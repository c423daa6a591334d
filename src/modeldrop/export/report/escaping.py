"""How a value becomes text of a page. Jinja2 does it with what is here, at every place of a template.

A page has five hundred such places, a registry ten thousand pages, and most of the values are the same few: so what a
string becomes is remembered, and templates are compiled to escape once, in ``escaped``.
"""

from __future__ import annotations

import functools
from typing import Any, cast

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from markupsafe import Markup, escape

from modeldrop.export.report.formatting import printable

_REMEMBERED = 2048


def escaped(value: Any) -> Markup:
    """A value as HTML, which shows the characters that HTML forbids; what is HTML already stays as it is."""
    kind = type(value)
    if kind is str:  # never a Markup, which equals the string that it must not be taken for
        return _escaped(value)
    if kind is Markup:
        return cast("Markup", value)
    return escape(printable(value))


@functools.lru_cache(_REMEMBERED)
def _escaped(text: str) -> Markup:
    return escape(printable(text))


class EscapingGenerator(CodeGenerator):
    """Compiles templates without the ``escape`` around ``finalize=escaped``: it would change nothing."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if self._escapes_twice(frame):
            self.write(finalize.src or "")
        else:
            super()._output_child_pre(node, frame, finalize)

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if self._escapes_twice(frame):
            self.write(")")
        else:
            super()._output_child_post(node, frame, finalize)

    def _escapes_twice(self, frame: Frame) -> bool:
        always = frame.eval_ctx.autoescape and not frame.eval_ctx.volatile
        return always and self.environment.finalize is escaped
