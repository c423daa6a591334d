"""Options that make a recipe, for publish, plan and build. Flags override the recipe file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.build.request import BuildRequest, load_recipe, make_request
from modeldrop.build.sources import resolve
from modeldrop.format.recipe import Recipe, parse_recipe

if TYPE_CHECKING:
    import argparse


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="org/name[@revision] on the Hugging Face Hub, or a checkpoint folder (./folder)",
    )
    group = parser.add_argument_group("recipe")
    group.add_argument("--recipe", type=Path, metavar="FILE", help="a TOML file with the recipe")
    group.add_argument("--task", help="feature-extraction, text-classification or token-classification")
    group.add_argument("--variants", metavar="A,B", help="variants to build (default: fp32,int8)")
    group.add_argument("--texts", metavar="FILE", help="texts to prove the variants on, one per line")
    group.add_argument("--max-length", type=int, metavar="TOKENS", help="tokens a text is cut to")
    group.add_argument("--allow-pickle", action="store_true", help="load pytorch_model.bin where needed")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code of the model")
    parser.add_argument("--offline", action="store_true", default=None, help="use the Hub's local cache only")


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the arguments ask for.

    Raises:
        RecipeError: an unknown key, variant, task or value.
    """
    plain = (load_recipe(arguments.recipe) if arguments.recipe else Recipe()).to_json()
    for name in ("task", "texts", "max_length"):
        if getattr(arguments, name) is not None:
            plain[name] = getattr(arguments, name)
    for name in ("allow_pickle", "trust_remote_code"):
        if getattr(arguments, name):
            plain[name] = True
    if arguments.variants is not None:
        plain["variants"] = [name.strip() for name in arguments.variants.split(",")]
    return parse_recipe(plain)


def request_of(arguments: argparse.Namespace) -> BuildRequest:
    """Resolve the source and compute the build key."""
    recipe = recipe_of(arguments)
    source = resolve(
        arguments.source,
        offline=arguments.offline,
        allow_pickle=recipe.allow_pickle,
        trust_remote_code=recipe.trust_remote_code,
    )
    return make_request(source, recipe)
