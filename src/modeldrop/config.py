"""Where ``modeldrop.toml`` is, which of its models are meant, and which registry by default.

``MODELDROP_CONFIG`` names the file; else it is ``modeldrop.toml`` in the current folder, if there is one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.config_settings import RegistrySettings, Settings, parse_settings
from modeldrop.errors import RecipeError, UsageError
from modeldrop.util.text import parse_duration
from modeldrop.util.values import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeldrop.config_models import ModelSettings

FILE = "modeldrop.toml"


def load_settings() -> Settings:
    """Read modeldrop.toml; folders and files in it are relative to it. Empty where there is none.

    Raises:
        RecipeError: ``MODELDROP_CONFIG`` names no file that can be read, or what it holds is wrong.
    """
    named = os.environ.get("MODELDROP_CONFIG", "")
    path = Path(named or FILE)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if not named:
            return Settings()
        raise RecipeError(f"MODELDROP_CONFIG names {named}, which is not there.", "Mend or unset it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}.") from None
    settings = parse_settings(text, str(path))
    folder = path.absolute().parent
    registries = {name: _located(registry, folder) for name, registry in settings.registries.items()}
    return replace(settings, registries=registries, folder=str(folder))


def settings_of(registry: str) -> RegistrySettings:
    """The settings of a registry: its name in modeldrop.toml, its URL or its folder.

    Raises:
        UsageError: it cannot be a registry, or none is named.
        RecipeError: modeldrop.toml is wrong.
    """
    return load_settings().of(registry)


def default_registry() -> str:
    """The URL or folder of the registry that bare model names live in (``MODELDROP_REGISTRY``), or "".

    Raises:
        UsageError: it names none.
    """
    named = os.environ.get("MODELDROP_REGISTRY", "")
    return settings_of(named).url if named else ""


def chosen_models(settings: Settings, names: Iterable[str] = ()) -> list[ModelSettings]:
    """The models of modeldrop.toml by name, all where none is named.

    Raises:
        UsageError: there is none, or none of that name.
        RecipeError: modeldrop.toml is wrong.
    """
    models = settings.models()
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
    return [models[name] for name in wanted]


def registries_of(model: ModelSettings, settings: Settings) -> tuple[str, ...]:
    """The registries of a model: its own, else MODELDROP_REGISTRY, else the only one of the file; URLs or folders.

    Raises:
        UsageError: none is named, and the file has none or several; or it names one that is not there.
    """
    if model.registries:
        return tuple(settings.of(registry).url for registry in model.registries)
    if default := default_registry():
        return (default,)
    if len(settings.registries) == 1:
        return tuple(registry.url for registry in settings.registries.values())
    raise UsageError(
        f"modeldrop.toml says no registry for the model {model.name}.",
        f'Write registry = "…" into [models.{model.name}], or set MODELDROP_REGISTRY.',
    )


def _located(registry: RegistrySettings, folder: Path) -> RegistrySettings:
    if "://" in registry.url or registry.url.startswith(("/", "~")):
        return registry
    return replace(registry, url=str(folder / registry.url))


def read_duration(text: str, where: str, *, unit: str = "") -> float:
    """Seconds of ``90m``, ``24h``, ``30d``, as an option, a variable or an input has them.

    Args:
        text: what was written.
        where: where it was written, for the message.
        unit: what a bare number counts, such as ``s``; "" refuses a bare number.

    Raises:
        UsageError: it is no duration.
    """
    try:
        return parse_duration(text, unit)
    except ValueError as error:
        raise UsageError(
            f"{where} {error}".strip(), "Write a number and a unit: 90m, 24h, 30d (s, m, h, d or w)."
        ) from None
