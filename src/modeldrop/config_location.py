"""Where things are, found without opening them: a registry in its one spelling, and the home of snapshots."""

from __future__ import annotations

import os
from pathlib import Path

from modeldrop.config import settings_of


def locate(registry: str) -> str:
    """The URL of a registry given by its URL, its folder or its name in modeldrop.toml.

    Raises:
        UsageError: none is named, or it cannot be one.
        RecipeError: modeldrop.toml is wrong.
    """
    url = settings_of(registry).url
    if "://" in url:
        return url
    folder = Path(url).expanduser().absolute()
    if ".." in folder.parts:
        folder = folder.resolve()  # one spelling, wherever it was asked from
    return str(folder)


def home_folder(directory: str | os.PathLike[str] | None = None) -> Path:
    """Where snapshots are kept: ``directory``, else ``MODELDROP_HOME``, else the user's cache."""
    return Path(directory or os.environ.get("MODELDROP_HOME") or _default_home()).expanduser().absolute()


def _default_home() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "modeldrop")  # noqa: PTH118
