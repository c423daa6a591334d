"""What is to be built: a resolved source, a recipe, and the key that both make."""

from __future__ import annotations

import hashlib
import json
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
    if recipe.calibration is not None:
        inputs["calibration"] = _digest("calibration", Path(recipe.calibration))
    if source.tokenizer_identity is not None:
        inputs["tokenizer"] = hashlib.sha256(source.tokenizer_identity.encode()).hexdigest()
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
    if recipe.calibration is not None:
        recipe = replace(recipe, calibration=str(path.parent / recipe.calibration))
    if recipe.tokenizer is not None and recipe.tokenizer.startswith(("./", "../")):
        recipe = replace(recipe, tokenizer=str(path.parent / recipe.tokenizer))
    return recipe


def _digest(key: str, path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise RecipeError(f"{key}: {path} cannot be read: {error.strerror}.") from None


_KEYS = (("text",), ("query", "passage"), ("question", "passage"), ("text", "text_pair"))


def _from_json(line: str, number: int, path: Path) -> str:
    """A line of JSON as a line of texts: a tab parts the two of a pair."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        value = next(([value[key] for key in keys] for keys in _KEYS if value.keys() == set(keys)), None)
    parts = [value] if isinstance(value, str) else value
    if isinstance(parts, list) and len(parts) in {1, 2} and all(isinstance(part, str) and part for part in parts):
        return "\t".join(part.replace("\t", " ").strip() for part in parts)
    raise RecipeError(
        f"texts: line {number} of {path} is neither a text nor a pair of them.",
        'Write "text", ["question", "passage"], {"text": …} or {"query": …, "passage": …}, one a line.',
    )


def _read_texts(path: Path) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _MAX_TEXTS_BYTES:
            raise RecipeError(f"texts: {path} has more than {_MAX_TEXTS_BYTES} bytes.", "Name a sample.")
        text = path.read_text("utf-8")
    except OSError as error:
        raise RecipeError(f"texts: {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"texts: {path} is not UTF-8.") from None
    if path.suffix == ".jsonl":
        # A line of JSON ends only where "\n" does; a text in it may hold any other line break.
        lines = [_from_json(line, number, path) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    else:
        lines = [line.strip() for line in text.splitlines()]
    texts = tuple(line for line in lines if line)
    if not texts or len(texts) > _MAX_TEXTS:
        raise RecipeError(f"texts: {path} has {len(texts)} texts; between 1 and {_MAX_TEXTS} are used.")
    return texts
