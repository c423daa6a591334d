"""Which tests ``make quick`` runs, and in which order pytest-xdist gets them."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
PROCESSES = {"fork", "multiprocessing", "posix_spawn", "subprocess"}
"""Modules and functions that start processes."""


LONG = (
    "docs/test_commands.py", "export/models/test_minilm.py", "export/test_transformers_exporter.py",
    "export/sources/test_openvino.py", "export/models/test_families.py", "conformance/test_conformance.py",
    "registry/test_cloud_races.py", "export/models/test_kinds.py", "service/test_service.py",
    "action/test_action_yml_runs.py", "export/test_reproducible.py", "export/test_traps.py",
    "action/test_action_yml_phases.py", "export/test_variants_kinds.py", "export/models/test_original.py",
    "storage/test_one_rule.py",
)  # fmt: skip
"""Modules that keep a processor for a quarter of a minute or more, the longest first."""


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
    """Whether one case of a quick module is quick: it starts no process, and of all registries it needs a folder."""
    if any(item.get_closest_marker(name) for name in ("heavy", "slow", "soak")):
        return False
    parameters = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
    if "servers" in item.fixturenames and "folder" not in parameters:
        return False
    fixtures = [one.func for known in item._fixtureinfo.name2fixturedefs.values() for one in known]
    return not (any(map(_function_starts, (item.function, *fixtures))) or any(map(starts_processes, parameters)))


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Order modules so that those that take longest come first: then the workers end together.

    A module takes what LONG says, and the longer the more cases it has, most of all those that export.
    """
    exports = Counter(item.path for item in items if item.get_closest_marker("heavy"))
    cases = Counter(item.path for item in items)

    def order(item: pytest.Item) -> tuple[int, int, int, str]:
        name = str(item.path.relative_to(ROOT / "tests"))
        return LONG.index(name) if name in LONG else len(LONG), -exports[item.path], -cases[item.path], name

    return sorted(items, key=order)


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
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.expr):
            yield from _at_import(child)


@functools.cache
def _source(name: str) -> Path | None:
    """Where our own module of this name lies."""
    top, _, _ = name.partition(".")
    if top not in {"modeldrop", "tests"}:
        return None
    path = (ROOT if top == "tests" else ROOT / "src") / name.replace(".", "/")
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


@functools.cache
def _function_starts(function: types.FunctionType) -> bool:
    """``starts_processes``, once for all cases of a test and for all tests that share a fixture."""
    return starts_processes(function)


def starts_processes(value: object) -> bool:
    """Whether a function or class of the tests names what starts a process, or another one that does."""
    left, seen = [value], set()
    while left:
        one: Any = inspect.unwrap(left.pop())  # type: ignore[arg-type]
        if getattr(one, "__name__", "") in PROCESSES:
            return True
        if id(one) in seen or not str(getattr(one, "__module__", "")).startswith("tests."):
            continue
        seen.add(id(one))
        if isinstance(one, type):
            left += [getattr(method, "fget", method) for method in vars(one).values()]
        elif isinstance(one, types.FunctionType):
            names = _names(one.__code__)
            if "fork" in names:
                return True
            for found in [one.__globals__[name] for name in names & one.__globals__.keys()]:
                own = isinstance(found, types.ModuleType) and found.__name__.startswith("tests.")
                left += [vars(found)[name] for name in names & vars(found).keys()] if own else [found]
    return False


@functools.cache
def _names(code: types.CodeType) -> frozenset[str]:
    """What the code of a function, and of those defined in it, names."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return frozenset(code.co_names).union(*map(_names, inner))
