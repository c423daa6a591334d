"""Which tests ``make quick`` runs, and in which order pytest-xdist gets them."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).resolve().parents[2]

SLOW_TO_IMPORT = {"accelerate", "fastembed", "nncf", "openvino", "optimum", "sentence_transformers", "torch"} | {
    "transformers"
}
NEEDS_MORE = {
    "tests.servers.buildah", "tests.servers.node", "tests.servers.wheels", "tests.runner.expressions",
    "tests.helpers.workflow_linters",
}  # fmt: skip
"""What needs more than ``.venv``: Node, wheels to install from, programs of the distribution."""
RUNTIME = "RUNTIME_PYTHON"
"""The interpreter of ``.venv-runtime``."""
OTHER_SERVERS = {"azure", "gcs", "lookalike", "s3rver"}
"""Fixtures and parameters: of what runs on every kind of registry, ``make quick`` runs a folder and S3."""


def is_quick(module: Path) -> bool:
    """Whether a test module can be collected and run with nothing but ``.venv``, and without importing torch."""
    needed: set[str] = set()
    left = [module.resolve()]
    seen = set(left)
    while left:
        for name in _imports(left.pop()):
            needed |= {name, name.partition(".")[0]}
            source = _source(name)
            if source is not None and source not in seen:
                seen.add(source)
                left.append(source)
    return not needed & SLOW_TO_IMPORT and not needed & NEEDS_MORE and RUNTIME not in needed


def is_quick_case(item: pytest.Function) -> bool:
    """Whether one case of a quick module is quick."""
    if any(item.get_closest_marker(name) for name in ("heavy", "slow", "soak")):
        return False
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return OTHER_SERVERS.isdisjoint(item.fixturenames) and not any(
        isinstance(value, str) and value in OTHER_SERVERS for value in parameters
    )


def heaviest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Order modules so that those that export most come first: then the workers end together."""
    exports = Counter(item.path for item in items if item.get_closest_marker("heavy"))
    cases = Counter(item.path for item in items)
    return sorted(items, key=lambda item: (-exports[item.path], -cases[item.path], str(item.path)))


@functools.cache
def _imports(module: Path) -> frozenset[str]:
    """What a module imports as soon as it is imported itself."""
    found: set[str] = set()
    for node in _at_import(ast.parse(module.read_text("utf-8"))):
        names = {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= names
        else:
            found |= {str(node.module), *(f"{node.module}.{name}" for name in names)} | (names & {RUNTIME})
    return frozenset(found)


def _at_import(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _at_import(child)


def _source(name: str) -> Path | None:
    """Where our own module of this name lies."""
    top, _, _ = name.partition(".")
    if top not in {"modeldrop", "tests"}:
        return None
    path = (ROOT if top == "tests" else ROOT / "src") / name.replace(".", "/")
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)
