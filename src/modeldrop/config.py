"""Where ``modeldrop.toml`` is, and which registry is meant by default.

``MODELDROP_CONFIG`` names the file; else it is ``modeldrop.toml`` in the current folder, if there is one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from modeldrop.errors import RecipeError
from modeldrop.format.settings import RegistrySettings, Settings, parse_settings

FILE = "modeldrop.toml"


def load_settings() -> Settings:
    """Read modeldrop.toml; folders in it are relative to it. Empty where there is none.

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
    return Settings({name: _located(registry, folder) for name, registry in settings.registries.items()})


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


def _located(registry: RegistrySettings, folder: Path) -> RegistrySettings:
    if "://" in registry.url or registry.url.startswith(("/", "~")):
        return registry
    return replace(registry, url=str(folder / registry.url))
