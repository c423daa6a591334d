"""What is to be published where, as the command line, the action's inputs or modeldrop.toml say it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldrop.config import ConfigFile
from modeldrop.errors import RecipeError, UsageError
from modeldrop.export.request import load_recipe
from modeldrop.format.names import DEFAULT_CHANNEL, check_channel, check_model
from modeldrop.format.recipe import Recipe, parse_recipe
from modeldrop.model_settings import (
    DEFAULT_DELTAS,
    WHOLE,
    BetterThanCurrent,
    ModelSettings,
    Shard,
    chosen_models,
    registries_of,
)

TEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """A model that is to be in registries.

    Attributes:
        source: where its weights come from, as SOURCE on the command line.
        model: its name in the registries.
        registries: their URLs, folders, or names in modeldrop.toml; the first decides.
        recipe: what to build.
        channel: the channel to move; None for none.
        force: build a new version even where the recipe has one.
        offline: use the Hub's local cache only; None follows HF_HUB_OFFLINE.
        test: a shell command that must succeed before a channel is moved to a new version, or "".
        test_seconds: how long it may take.
        test_retries: how often it is tried again if it fails.
        compare_with: the channel whose version the test compares the new one with, if no channel is to move.
        proposal: whether a pull request or a merge queue asks, which moves only channels that nobody else does.
        better: what a new version must be better in, than the one that the channel names, for it to move.
        deltas: from how many of the versions that channels name a new one gets deltas; 0 for none.
        propose: whether the channel's move is only to be decided and tested, and left to an approval.

    Raises:
        UsageError: an invalid name, no registry, or an invalid command.
    """

    source: str
    model: str
    registries: tuple[str, ...]
    recipe: Recipe
    channel: str | None = DEFAULT_CHANNEL
    force: bool = False
    offline: bool | None = None
    test: str = ""
    test_seconds: float = TEST_SECONDS
    test_retries: int = 0
    compare_with: str = DEFAULT_CHANNEL
    proposal: bool = False
    propose: bool = False
    better: BetterThanCurrent | None = None
    deltas: int = DEFAULT_DELTAS

    def __post_init__(self) -> None:
        check_model(self.model)
        check_channel(self.compare_with if self.channel is None else self.channel)
        if not self.registries:
            raise UsageError("No registry is named.", "Name one, or set MODELDROP_REGISTRY to its URL or folder.")
        if "\0" in self.test or "\0" in self.source:
            raise UsageError("A command or a source cannot contain NUL.")
        if not self.test_seconds > 0:
            raise UsageError("The test's time limit must be more than 0 seconds.", "Write one such as 90s, 30m or 2h.")


def requests_of(settings: ConfigFile, names: Iterable[str] = (), shard: Shard = WHOLE) -> list[PublishRequest]:
    """The models of modeldrop.toml, in its order; only those that are named, if any are.

    Args:
        settings: all of the file, as ``config.load_config_file`` gives it.
        names: the models wanted; none for all.
        shard: which part of them.

    Raises:
        UsageError: there is no model of that name, none at all, or no registry for one.
        RecipeError: a model's recipe is wrong; it names the key.
    """
    return [
        PublishRequest(
            source=model.source,
            model=model.name,
            registries=registries_of(model, settings),
            recipe=recipe_of_model(model),
            channel=model.channel,
            test=model.test,
            better=model.better,
            deltas=model.deltas,
        )
        for model in chosen_models(settings, names, shard)
    ]


def recipe_of_model(model: ModelSettings) -> Recipe:
    """The recipe of a model of modeldrop.toml: its file's, with the keys of the model over it.

    Raises:
        RecipeError: the file, a key or a value is wrong.
    """
    try:
        return merged_recipe(model.recipe_file, model.recipe)
    except RecipeError as error:
        raise RecipeError(f"models.{model.name}: {error.message}", error.hint) from None


def merged_recipe(file: str | Path | None, own: Mapping[str, Any]) -> Recipe:
    """The recipe of a file, if one is named, with some keys replaced.

    Raises:
        RecipeError: the file, a key or a value is wrong.
    """
    return parse_recipe((load_recipe(Path(file)) if file else Recipe()).to_json() | dict(own))


def matrix_of(settings: ConfigFile, names: Iterable[str] = (), shard: Shard = WHOLE) -> str:
    """The models of modeldrop.toml for ``strategy.matrix`` of a GitHub workflow: one line of JSON.

    Args:
        settings: all of the file. Paths stay as the file has them.
        names: the models wanted; none for all.
        shard: which part of them.

    Raises:
        UsageError: there is no model of that name, none at all, or no registry for one.
        RecipeError: modeldrop.toml is wrong.
    """
    as_written = settings.as_written()
    rows = [
        {
            "name": model.name,
            "source": model.source,
            "registry": "\n".join(registries_of(model, as_written)),
            "channel": model.channel,
        }
        for model in chosen_models(as_written, names, shard)
    ]
    return json.dumps({"include": rows}, ensure_ascii=True)
