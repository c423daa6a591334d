"""Whether a command line that is shown is one of modeldrop's."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

import pytest

from modeldrop.cli import COMMANDS
from modeldrop.commands.fetch_options import fetch_settings


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of one of modeldrop's commands."""
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    importlib.import_module(f"modeldrop.commands.{command}").add_arguments(parser)
    return parser


def check_command(words: Sequence[str]) -> None:
    """Fail unless ``words``, the first of them being ``modeldrop``, are a command with its options."""
    _, command, *arguments = words
    assert command in COMMANDS, words
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    try:
        parsed = parser_of(command).parse_args(ours)
    except (argparse.ArgumentError, SystemExit) as error:
        pytest.fail(f"{words}: {error}")
    if command in {"fetch", "run", "watch"}:
        fetch_settings(parsed)
        assert ("--" in arguments) == (command == "run"), words
