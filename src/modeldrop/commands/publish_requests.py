"""The wishes that a command line means, for publish and plan: one by its arguments, or models of modeldrop.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.commands.arguments import model_argument
from modeldrop.commands.recipe_options import from_settings, recipe_of
from modeldrop.config import load_settings
from modeldrop.errors import UsageError
from modeldrop.publishing.request import Wish, wishes_of

if TYPE_CHECKING:
    import argparse


def wishes(arguments: argparse.Namespace) -> list[Wish]:
    """What is to be published, as far as source, model, registry and recipe say.

    Raises:
        UsageError: arguments that exclude each other, or cannot be meant.
        RecipeError: the recipe or modeldrop.toml is wrong.
    """
    if from_settings(arguments):
        return wishes_of(load_settings(), arguments.only)
    if arguments.model is None:
        raise UsageError(
            f"Where is {arguments.source} to be published?",
            "Write REGISTRY/MODEL after the source, such as ./models/embedder.",
        )
    reference = model_argument(arguments.model)
    return [Wish(arguments.source, reference.model, (reference.registry,), recipe_of(arguments))]
