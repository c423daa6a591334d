"""Options that say what to build, for publish, plan and build: a source with a recipe, or models of modeldrop.toml."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from modeldrop.commands.arguments import model_argument
from modeldrop.config import load_config_file
from modeldrop.errors import UsageError
from modeldrop.export.sources import FORMS
from modeldrop.format.recipe import EXTERNAL_DATA, Recipe
from modeldrop.format.tasks import TASKS
from modeldrop.model_settings import WHOLE, Shard, parse_shard
from modeldrop.publishing.request import PublishRequest, merged_recipe, requests_of

_VALUES = ("recipe", "task", "variants", "inputs", "metric", "max_length", "opset", "external_data", "tokenizer")
_SWITCHES = ("allow_pickle", "trust_remote_code", "trust_code")


def add_recipe_options(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """Add SOURCE, the recipe's options and those that choose models of modeldrop.toml instead.

    Args:
        parser: the command's.
        several: whether it can take several models at once.
    """
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help=FORMS,
    )
    group = parser.add_argument_group("recipe")
    group.add_argument("--recipe", type=Path, metavar="FILE", help="a TOML file with the recipe")
    group.add_argument("--task", help=f"one of {', '.join(TASKS)} (default: what the model's configuration says)")
    group.add_argument(
        "--variants",
        metavar="A,B",
        help="variants to build (default: fp32,int8; of convolutions fp32,fp16; from OpenVINO graphs those and "
        "openvino-int8)",
    )
    group.add_argument(
        "--inputs",
        "--texts",
        metavar="PATH",
        help="compare the variants with the original on these: a file of texts, one per line, a .jsonl file, "
        "or a folder of images or recordings",
    )
    group.add_argument("--metric", metavar="MODULE:FUNCTION", help="measure the variants with this function too")
    group.add_argument("--max-length", type=int, metavar="TOKENS", help="cut texts to this many tokens")
    group.add_argument("--opset", type=int, metavar="N", help="export with this version of ONNX's operators")
    group.add_argument(
        "--external-data",
        choices=EXTERNAL_DATA,
        help="whether the weights of ONNX graphs lie in files beside them, which processes share (default: auto, from "
        "8 MB of weights on)",
    )
    group.add_argument("--tokenizer", metavar="SOURCE", help="where the tokenizer is (default: beside the weights)")
    group.add_argument("--allow-pickle", action="store_true", help="load pytorch_model.bin if there are no safetensors")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    group.add_argument("--trust-code", action="store_true", help="run the Python file that SOURCE names")
    add_model_choice(parser, several=several)
    parser.add_argument("--offline", action="store_true", default=None, help="use the Hub's local cache only")


def add_model_choice(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """``--only`` and ``--all``: models of modeldrop.toml."""
    group = parser.add_argument_group("models of modeldrop.toml")
    again = " (can be repeated)" if several else ""
    group.add_argument("--only", action="append", default=[], metavar="NAME", help=f"this model{again}")
    if several:
        group.add_argument("--all", action="store_true", help="all of them")
        group.add_argument(
            "--shard", metavar="I/N", help="of these the I-th of N parts, for N machines that share the work"
        )
    else:
        parser.set_defaults(all=False, shard=None)


def chosen_shard(arguments: argparse.Namespace) -> Shard:
    """Which part of the models is meant: all, unless ``--shard`` says otherwise.

    Raises:
        UsageError: it says no part of a whole.
    """
    return parse_shard(arguments.shard) if arguments.shard else WHOLE


def from_settings(arguments: argparse.Namespace) -> bool:
    """Whether models of modeldrop.toml are meant.

    Raises:
        UsageError: also something else, or nothing at all.
    """
    if not (arguments.all or arguments.only):
        if arguments.shard:
            raise UsageError("--shard is a part of the models of modeldrop.toml.", "Give --all or --only with it.")
        if arguments.source is None:
            raise UsageError("No SOURCE is named.", "Name it, or models of modeldrop.toml with --only NAME or --all.")
        return False
    if arguments.all and arguments.only:
        raise UsageError("--all and --only exclude each other.", "Give one of them.")
    given = [name for name in _VALUES if getattr(arguments, name) is not None]
    given += [name for name in _SWITCHES if getattr(arguments, name)]
    if arguments.source is not None or given:
        what = f"--{given[0].replace('_', '-')}" if given else f"the source {arguments.source}"
        raise UsageError(
            f"--all and --only take the source and the recipe from modeldrop.toml; {what} cannot be given with them.",
            "Write it into modeldrop.toml, or leave it out.",
        )
    return True


def recipe_from_options(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the arguments ask for; options override the file.

    Raises:
        RecipeError: an unknown key, variant, task or value.
    """
    own: dict[str, Any] = {}
    for name in ("task", "inputs", "metric", "max_length", "opset", "external_data", "tokenizer"):
        if getattr(arguments, name) is not None:
            own[name] = getattr(arguments, name)
    for name in _SWITCHES:
        if getattr(arguments, name):
            own[name] = True
    if arguments.variants is not None:
        own["variants"] = [name.strip() for name in arguments.variants.split(",")]
    return merged_recipe(arguments.recipe, own)


def publish_requests(arguments: argparse.Namespace) -> list[PublishRequest]:
    """What is to be published, as far as source, model, registry and recipe say.

    Raises:
        UsageError: invalid arguments, or some that exclude each other.
        RecipeError: the recipe or modeldrop.toml is wrong.
    """
    if from_settings(arguments):
        return requests_of(load_config_file(), arguments.only, chosen_shard(arguments))
    if arguments.model is None:
        raise UsageError(
            f"Where is {arguments.source} to be published?",
            "Write REGISTRY/MODEL after the source, such as ./models/embedder.",
        )
    reference = model_argument(arguments.model)
    return [
        PublishRequest(
            source=arguments.source,
            model=reference.model,
            registries=(reference.registry,),
            recipe=recipe_from_options(arguments),
        )
    ]
