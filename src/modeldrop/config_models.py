"""The models of ``modeldrop.toml``: what to build, where to publish it, and how containers fetch it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from modeldrop.errors import FormatError, RecipeError, UsageError
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import DEFAULT_CHANNEL, NAME, check_channel
from modeldrop.format.recipe import read_recipe
from modeldrop.util.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN = ("source", "registry", "channel", "test", "recipe", "fetch")
_MAX_REGISTRIES = 16
_MAX_COMMAND = 8192
_RELATIVE = (".", "..", "./", "../")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A model of modeldrop.toml.

    Attributes:
        name: its name in the registries.
        source: where its weights come from, as SOURCE on the command line.
        registries: names in modeldrop.toml, URLs or folders; empty for the default one.
        channel: the channel to move.
        test: a shell command that must succeed before the channel is moved, or "".
        recipe_file: a file with the recipe, or "".
        recipe: keys of the recipe, which override the file's.
        variant: the variant that containers fetch, or "" for their own choice.
    """

    name: str
    source: str
    registries: tuple[str, ...] = ()
    channel: str = DEFAULT_CHANNEL
    test: str = ""
    recipe_file: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""


def parse_models(tables: Mapping[str, Any], what: str = "modeldrop.toml", folder: str = "") -> dict[str, ModelSettings]:
    """Read the table ``models``.

    Args:
        tables: as it stands in the file.
        what: the file's name, for messages.
        folder: what relative paths are relative to; "" to leave them as they are.

    Raises:
        RecipeError: an unknown key, or a wrong value; it names the key.
    """
    try:
        fields = Fields(tables, "models", what)
        return {name: _model(name, fields.child(name), folder) for name in fields.names()}
    except (FormatError, UsageError) as error:
        raise RecipeError(f"{what}: {error.message}", error.hint) from None


def _model(name: str, fields: Fields, folder: str) -> ModelSettings:
    if not NAME.fullmatch(name):
        raise FormatError("a name has small letters, digits, '.', '_' and '-', at most 64", field=fields.path)
    source = fields.text("source", limit=4096)
    channel = fields.text("channel", default=DEFAULT_CHANNEL, limit=64)
    try:
        check_channel(channel)
    except UsageError as error:
        raise FormatError(error.message, error.hint, field=fields.at("channel")) from None
    recipe_file = fields.text("recipe", default="", limit=4096)
    fetch = fields.child("fetch", optional=True)
    variant = fetch.text("variant", default="", pattern=NAME)
    fetch.refuse_unknown()
    settings = ModelSettings(
        name=name,
        source=_located(source, folder) if source in _RELATIVE or source.startswith(_RELATIVE[2:]) else source,
        registries=_registries(fields, folder),
        channel=channel,
        test=fields.text("test", default="", limit=_MAX_COMMAND),
        recipe_file=_located(recipe_file, folder) if recipe_file else "",
        recipe=_recipe(fields, folder),
        variant=variant,
    )
    for text, key in ((source, "source"), (settings.test, "test")):
        if key in fields.names() and not text.strip():
            fields.fail("must not be empty", key)
    return settings


def _registries(fields: Fields, folder: str) -> tuple[str, ...]:
    registries = fields.text_or_texts("registry", limit=_MAX_REGISTRIES, default=())
    for index, registry in enumerate(registries):
        if not registry.strip():
            fields.fail("must not be empty", "registry")
        if registry in registries[:index]:
            fields.fail(f"{registry!r} is named twice", "registry")
    return tuple(_located(item, folder) if item.startswith(_RELATIVE[2:]) else item for item in registries)


def _recipe(fields: Fields, folder: str) -> dict[str, Any]:
    """The keys of the recipe that stand among a model's; all keys are known after this, or refused."""
    read_recipe(fields, strict=True)
    own = {name: fields.value(name) for name in fields.names() if name not in _OWN}
    if "texts" in own:
        own["inputs"] = own.pop("texts")
    for name in ("inputs", "metric", "calibration"):
        if isinstance(own.get(name), str):
            own[name] = _located(own[name], folder)
    if isinstance(own.get("tokenizer"), str) and own["tokenizer"].startswith(_RELATIVE[2:]):
        own["tokenizer"] = _located(own["tokenizer"], folder)
    return own


def _located(path: str, folder: str) -> str:
    if not folder or path.startswith(("/", "~")):
        return path
    return str(PurePosixPath(folder) / path)
