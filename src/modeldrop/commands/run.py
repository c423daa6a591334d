"""Fetch models, then become another program that finds them in its environment.

    modeldrop run ./models/embedder -- python serve.py

The program takes this process's place: it has its id, also where that is 1, and gets the signals. For a model called
embedder its environment holds

    MODELDROP_MODEL_EMBEDDER              the snapshot's folder
    MODELDROP_MODEL_EMBEDDER_FILE         the graph that a runtime opens
    MODELDROP_MODEL_EMBEDDER_VERSION      such as v3
    MODELDROP_MODEL_EMBEDDER_VARIANT      such as int8
    MODELDROP_MODEL_EMBEDDER_DIGEST       of the version's manifest
    MODELDROP_MODEL_EMBEDDER_GENERATION   of the channel; not there for a pinned version

What is neither a letter nor a digit in a model's name is an underscore there.
"""

from __future__ import annotations

import argparse

from modeldrop.commands.arguments import reference_argument
from modeldrop.commands.fetch import Reporting, fetch_all
from modeldrop.commands.fetch_options import ENVIRONMENT, add_fetch_options
from modeldrop.errors import UsageError
from modeldrop.fetcher.exec import exec_command, variable_names
from modeldrop.format.reference import Reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments; what stands behind ``--`` is in ``command`` already."""
    add_fetch_options(parser)
    parser.usage = "modeldrop run REFERENCE… [-d DIR] [--variant V] … -- COMMAND…"
    parser.epilog = f"COMMAND… is passed on as it is, options and all.\n{ENVIRONMENT}"


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns only by an error."""
    with Reporting(arguments) as report:
        if not arguments.command:
            raise UsageError(
                "No command to run.", "Write it after '--': modeldrop run ./models/embedder -- python serve.py"
            )
        references = [reference_argument(text) for text in arguments.references]
        _check_variables(references)
        snapshots = fetch_all(references, arguments, report.display)
    if report.exit_code:
        return report.exit_code
    with Reporting(arguments) as failed:  # the first display is closed: no thread of ours draws while it starts
        exec_command(arguments.command, snapshots)
    return failed.exit_code


def _check_variables(references: list[Reference]) -> None:
    owners: dict[str, Reference] = {}
    for reference in references:
        for name in variable_names(reference.model):
            if name in owners:
                raise UsageError(f"Two models would share the variable {name}.", "Run with one of them.")
            owners[name] = reference
