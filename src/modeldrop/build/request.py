"""What is to be built: a resolved source, a recipe, and the key that both make."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.build.epoch import EXPORTER_EPOCH
from modeldrop.build.files import sha256_file
from modeldrop.build.texts import BUILT_IN
from modeldrop.errors import RecipeError
from modeldrop.format.recipe import Recipe, build_key, parse_recipe

if TYPE_CHECKING:
    from modeldrop.build.sources import Source

_MAX_TEXTS_BYTES = 1 << 20
_MAX_TEXTS = 2000


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A build that is fully determined: same ``key``, same result."""

    source: Source
    recipe: Recipe
    texts: tuple[str, ...]
    key: str


def make_request(source: Source, recipe: Recipe) -> BuildRequest:
    """Read what the recipe names, and compute the build key.

    Raises:
        RecipeError: the file of texts cannot be read.
    """
    inputs = {}
    texts = BUILT_IN
    if recipe.texts is not None:
        texts = _read_texts(Path(recipe.texts))
        inputs["texts"] = sha256_file(Path(recipe.texts))
    return BuildRequest(source, recipe, texts, build_key(source.identity, recipe, inputs, EXPORTER_EPOCH))


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML file; paths in it are relative to the file.

    Raises:
        RecipeError: it cannot be read, is not TOML, or has an unknown key or value.
    """
    try:
        plain = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {path} is not TOML: {error}.") from None
    try:
        recipe = parse_recipe(plain)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.message}", error.hint) from None
    if recipe.texts is not None:
        recipe = replace(recipe, texts=str(path.parent / recipe.texts))
    return recipe


def _read_texts(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _MAX_TEXTS_BYTES:
            raise RecipeError(f"texts: {path} has more than {_MAX_TEXTS_BYTES} bytes.", "Name a sample.")
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise RecipeError(f"texts: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"texts: {path} is not UTF-8.") from None
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts or len(texts) > _MAX_TEXTS:
        raise RecipeError(f"texts: {path} has {len(texts)} texts; between 1 and {_MAX_TEXTS} are used.")
    return texts
