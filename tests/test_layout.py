"""What CONTRIBUTING.md says of the tests themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.builds import contents, run_python
from tests.helpers.command_line import modeldrop
from tests.helpers.selection import LONG, is_quick, starts_processes
from tests.servers.s3 import S3Server

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))
TEST_MODULE = re.compile(r"\b(?:from|import) [^\n#]*?\btests[.\w]*(?:\.| import [^\n#]*?\b)test_\w+")
"""An import of a test module, be it in a program that a string holds."""


def test_no_test_module_is_imported_by_another() -> None:
    found = {
        str(path.relative_to(TESTS)): line for path in MODULES for line in TEST_MODULE.findall(path.read_text("utf-8"))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("    import tests.{}", True),
        ("from tests.fetcher.{} import thing", True),
        ("from tests.fetcher import other, {}", True),
        ('program = "import sys, tests.fetcher.{} as test"', True),
        ("from tests.helpers.builds import contents", False),
        ('("sklearn.tests.test_base.MyEstimator", False)', False),
    ],
)
def test_every_import_of_a_test_module_is_seen(line: str, seen: bool) -> None:
    assert bool(TEST_MODULE.search(line.format("test_one"))) == seen  # put in here, or this module would be found


def test_no_module_is_longer_than_six_hundred_lines() -> None:
    lengths = {str(path.relative_to(TESTS)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 600} == {}


@pytest.mark.parametrize(
    ("module", "quick"),
    [
        ("format/test_manifest.py", True),
        ("registry/test_channels.py", True),
        ("fetcher/test_fetch.py", True),
        ("export/models/test_minilm.py", False),  # imports torch
        ("service/conftest.py", False),  # imports a helper that does
        ("runner/test_runner.py", False),  # needs Node
        ("docs/test_troubleshooting.py", False),  # needs .venv-runtime
    ],
)
def test_quick_modules_are_found(module: str, quick: bool) -> None:
    assert is_quick(TESTS / module) == quick


def test_modules_that_take_long_are_there() -> None:
    assert [name for name in LONG if not (TESTS / name).is_file()] == []


def run_python_indirectly() -> str:
    return run_python("")


@pytest.mark.parametrize(
    ("value", "starts"),
    [
        (run_python_indirectly, True),
        (modeldrop, True),
        (S3Server, True),
        (contents, False),
        (test_quick_modules_are_found, False),
    ],
)
def test_what_starts_processes_is_found(value: object, starts: bool) -> None:
    """``make quick`` leaves it out."""
    assert starts_processes(value) == starts


def test_what_a_test_records_can_be_written(pytestconfig: pytest.Config) -> None:
    """In any other report it is a warning, and so an error."""
    assert pytestconfig.getini("junit_family") == "legacy"
