"""Print the models of modeldrop.toml as one line of JSON, for the strategy.matrix of a GitHub workflow.

{"include": [{"name": …, "source": …, "registry": …, "channel": …}]}

A model in several registries has one registry in each line of ``registry``. Paths are as in the file. GitHub takes 256
rows: --shard 1/2 and --shard 2/2 are the halves of more.
"""

from __future__ import annotations

import argparse

from modeldrop.commands.recipe_options import add_model_choice, chosen_shard
from modeldrop.config import load_config_file
from modeldrop.errors import UsageError
from modeldrop.publishing.request import matrix_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.all and arguments.only:
        raise UsageError("--all and --only exclude each other.", "Give one of them.")
    print(matrix_of(load_config_file(), arguments.only, chosen_shard(arguments)))
    return 0
