"""Print the models of modeldrop.toml as one line of JSON, for the strategy.matrix of a GitHub workflow.

{"include": [{"name": …, "source": …, "registry": …, "channel": …}]}

A model in several registries has one in each line of ``registry``. Paths are as the file has them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modeldrop.commands.recipe_options import add_model_choice
from modeldrop.config import chosen_models, load_settings, registries_of
from modeldrop.errors import UsageError
from modeldrop.util.values import replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from modeldrop.config_settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_model_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.all and arguments.only:
        raise UsageError("--all and --only exclude each other.", "Write one of them.")
    print(matrix_of(load_settings(), arguments.only))
    return 0


def matrix_of(settings: Settings, names: Iterable[str]) -> str:
    """The models as one line of JSON; all where none is named.

    Raises:
        UsageError: there is none of that name, none at all, or no registry for one.
        RecipeError: modeldrop.toml is wrong.
    """
    as_written = replace(settings, folder="")
    rows = [
        {
            "name": model.name,
            "source": model.source,
            "registry": "\n".join(registries_of(model, as_written)),
            "channel": model.channel,
        }
        for model in chosen_models(as_written, names)
    ]
    return json.dumps({"include": rows}, ensure_ascii=True)
