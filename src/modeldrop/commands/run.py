"""Fetch models, then become another program that finds their folders in its environment.

    modeldrop run ./models/embedder -- python serve.py

sets MODELDROP_MODEL_EMBEDDER. The program takes this process's place: it gets the signals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.commands.fetch import add_fetch_options, fetch_all
from modeldrop.errors import UsageError
from modeldrop.runtime.execute import execute, variable_name

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments; what stands behind ``--`` is in ``command`` already."""
    add_fetch_options(parser)
    parser.usage = "modeldrop run REFERENCE… [-d DIR] [--variant V] -- COMMAND…"
    parser.epilog = "COMMAND… is passed on as it is, options and all."


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns only by an error."""
    if not arguments.command:
        raise UsageError(
            "No command to run.", "Write it after '--': modeldrop run ./models/embedder -- python serve.py"
        )
    names = [variable_name(text.rpartition("/")[2].partition("@")[0]) for text in arguments.references]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Two models would share the variable {name}.", "Run with one of them.")
    execute(arguments.command, fetch_all(arguments))
