"""The models that modeldrop.toml describes: what to build, where to publish it, how containers fetch it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.config import below, default_registry
from modeldrop.errors import FormatError, RecipeError, UsageError
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import DEFAULT_CHANNEL, NAME, OWN_NAME, PYTHON, check_channel
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modeldrop.config import ConfigFile

DEFAULT_DELTAS, MAX_DELTAS = 2, 16
"""From how many of the versions that channels name a new one gets deltas."""
_MAX_REGISTRIES = 16
_MAX_COMMAND = 8192
_SHARD_DIGITS = 6
_RELATIVE = (".", "..", "./", "../")
_NOT_RECIPE = ("source", "registry", "channel", "test", "recipe", "fetch", "promote", "deltas")


class BetterThanCurrent(NamedTuple):
    """A channel is moved only to a version that is better than the one it names, by the recipe's own metric.

    Attributes:
        metric: which of the metric's figures.
        margin: by how much; 0.0 where as good is good enough.
    """

    metric: str
    margin: float = 0.0


class ModelSettings(NamedTuple):
    """A model of modeldrop.toml: what to build, where to publish it, and how containers fetch it.

    Attributes:
        name: its name in the registries.
        source: where its weights come from, as SOURCE on the command line.
        registries: names in modeldrop.toml, URLs or folders; empty for the default one.
        channel: the channel to move.
        test: a shell command that must succeed before the channel is moved, or "".
        recipe_file: a file with the recipe, or "".
        recipe: keys of the recipe, which override the file's.
        variant: the variant that containers fetch, or "" for their own choice.
        better: what a new version must be better in for the channel to move; None for nothing.
        deltas: from how many of the versions that channels name a new one gets deltas; 0 for none.
    """

    name: str
    source: str
    registries: tuple[str, ...] = ()
    channel: str = DEFAULT_CHANNEL
    test: str = ""
    recipe_file: str = ""
    recipe: Mapping[str, Any] = {}
    variant: str = ""
    better: BetterThanCurrent | None = None
    deltas: int = DEFAULT_DELTAS


def read_models(config: ConfigFile) -> dict[str, ModelSettings]:
    """The models of modeldrop.toml by their names, in the order of the file.

    Raises:
        RecipeError: an unknown key, or a wrong value; it names the key.
    """
    try:
        fields = Fields(config.model_tables, "models", config.what)
        return {name: _model(name, fields.child(name), config.folder) for name in fields.names()}
    except (FormatError, UsageError) as error:
        raise RecipeError(f"{config.what}: {error.message}", error.hint) from None


class Shard(NamedTuple):
    """One of several equal parts of the models, for machines that share the work: the ``part``-th of ``parts``."""

    part: int = 1
    parts: int = 1


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """Read ``I/N``, from ``1/N`` to ``N/N``.

    Raises:
        UsageError: it is something else.
    """
    part, slash, parts = text.partition("/")
    plain = all(one.isascii() and one.isdigit() and len(one) <= _SHARD_DIGITS for one in (part, parts))
    if not slash or not plain or not 1 <= int(part) <= int(parts):
        raise UsageError(f"--shard {text[:80]!r} is no part of a whole.", "Write I/N, from 1/N to N/N, such as 3/8.")
    return Shard(int(part), int(parts))


def chosen_models(config: ConfigFile, names: Iterable[str] = (), shard: Shard = WHOLE) -> list[ModelSettings]:
    """The models of modeldrop.toml by name, all where none is named; of these, every N-th for a shard of N.

    A shard may have no model: of three models, the fourth of four.

    Raises:
        UsageError: there is none, or none of that name.
        RecipeError: modeldrop.toml is wrong.
    """
    models = read_models(config)
    wanted = list(dict.fromkeys(names)) or list(models)
    for name in wanted:
        if name not in models:
            raise UsageError(
                f"modeldrop.toml has no model {name[:80]!r}.", f"Its models: {', '.join(models) or 'none'}."
            )
    if not wanted:
        raise UsageError(
            "There is no model in modeldrop.toml.",
            "Describe each in a table [models.<name>] with its source, in the modeldrop.toml of the current folder "
            "or the one that MODELDROP_CONFIG names.",
        )
    return [models[name] for name in wanted[shard.part - 1 :: shard.parts]]


def registries_of(model: ModelSettings, config: ConfigFile) -> tuple[str, ...]:
    """The registries of a model: its own, else MODELDROP_REGISTRY, else the only one of the file; URLs or folders.

    Raises:
        UsageError: none is named, and the file has none or several; or it names one that is not there.
    """
    if model.registries:
        return tuple(config.registry(registry).url for registry in model.registries)
    if default := default_registry():
        return (default,)
    if len(config.registries) == 1:
        return tuple(registry.url for registry in config.registries.values())
    raise UsageError(
        f"modeldrop.toml says no registry for the model {model.name}.",
        f'Write registry = "…" into [models.{model.name}], or set MODELDROP_REGISTRY.',
    )


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
    promote = fields.child("promote", optional=True)
    metric = promote.text("metric", default="", pattern=OWN_NAME) if "metric" in promote.names() else ""
    margin = promote.number("better_than_current", default=0.0)
    promote.refuse_unknown()
    if promote.names() and not metric:
        promote.fail("names the figure of the own metric that decides", "metric")
    deltas = fields.integer("deltas", low=0, high=MAX_DELTAS, default=DEFAULT_DELTAS)
    settings = ModelSettings(
        name=name,
        source=_below(folder, source),
        registries=_registries(fields, folder),
        channel=channel,
        test=fields.text("test", default="", limit=_MAX_COMMAND),
        recipe_file=below(folder, recipe_file),
        recipe=_recipe(fields, folder),
        variant=variant,
        better=BetterThanCurrent(metric, margin) if metric else None,
        deltas=deltas,
    )
    for text, key in ((source, "source"), (settings.test, "test")):
        if key in fields.names() and not text.strip():
            fields.fail("must not be empty", key)
    return settings


def _below(folder: str, source: str) -> str:
    if source.startswith(PYTHON):
        return PYTHON + below(folder, source.removeprefix(PYTHON))
    return below(folder, source) if source in _RELATIVE or source.startswith(_RELATIVE[2:]) else source


def _registries(fields: Fields, folder: str) -> tuple[str, ...]:
    registries = fields.text_or_texts("registry", limit=_MAX_REGISTRIES, default=())
    for index, registry in enumerate(registries):
        if not registry.strip():
            fields.fail("must not be empty", "registry")
        if registry in registries[:index]:
            fields.fail(f"{registry!r} is named twice", "registry")
    return tuple(below(folder, item) if item.startswith(_RELATIVE[2:]) else item for item in registries)


def _recipe(fields: Fields, folder: str) -> dict[str, Any]:
    """The keys of the recipe that stand among a model's; all keys are known after this, or refused."""
    from modeldrop.format.recipe import WRITTEN_RECIPE  # a container that fetches need not load it

    WRITTEN_RECIPE.read(fields)
    own = {name: fields.value(name) for name in fields.names() if name not in _NOT_RECIPE}
    if "texts" in own:
        own["inputs"] = own.pop("texts")
    for name in ("inputs", "metric", "calibration", "state_dict"):
        if isinstance(own.get(name), str):
            own[name] = below(folder, own[name])
    if isinstance(own.get("tokenizer"), str) and own["tokenizer"].startswith(_RELATIVE[2:]):
        own["tokenizer"] = below(folder, own["tokenizer"])
    return own
