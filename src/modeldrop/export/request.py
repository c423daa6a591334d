"""A build request: a resolved source, a recipe, and their build key."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldrop.errors import RecipeError
from modeldrop.export.environments.exporters import OPTIMUM, TRANSFORMERS
from modeldrop.export.exporter_choice import choose_exporter
from modeldrop.export.generic_inputs import check_file
from modeldrop.export.inputs import Sample, read_samples
from modeldrop.export.own_metric import OwnMetric, find_metric
from modeldrop.export.preflight.openvino_source import default_variants, origin_of
from modeldrop.export.sources import Source
from modeldrop.format.names import hex_digest
from modeldrop.format.recipe import AUTO_EXPORTER, Recipe, build_key, parse_recipe
from modeldrop.util.files import sha256_file

EXPORTER_EPOCH = 5
"""Part of every build key. Raised when the files made of the same source and recipe change on purpose."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A build that is fully determined: same ``key``, same result.

    ``samples`` are the recipe's own inputs, and () where the built-in ones are meant, and of a generic model, whose
    worker reads them; ``metric`` is its own metric.
    ``optional`` are the variants that nobody has asked for by name: one that misses its thresholds is left out.
    ``exporter`` is the name of the one that makes the graphs.
    """

    source: Source
    recipe: Recipe
    samples: tuple[Sample, ...]
    metric: OwnMetric | None
    key: str
    optional: tuple[str, ...] = ()
    exporter: str = OPTIMUM.name


def make_request(source: Source, recipe: Recipe) -> BuildRequest:
    """Read what the recipe names, and compute the build key; where it names no variants, those that suit the source.

    Raises:
        RecipeError: a file cannot be read, or holds something else.
        SourceError: the source's OpenVINO graph is not whole, or of a kind that is not known.
    """
    optional: tuple[str, ...] = ()
    if not recipe.variants:
        recipe = recipe._replace(variants=default_variants(source, calibrated=recipe.calibration is not None))
        named = {*recipe.thresholds, *recipe.own_thresholds, *recipe.options, origin_of(source).name}
        optional = tuple(name for name in recipe.variants if name not in named)
    inputs = {}
    samples: tuple[Sample, ...] = ()
    metric = None
    if recipe.inputs is not None and source.framework:
        inputs["inputs"] = check_file(Path(recipe.inputs))
    elif recipe.inputs is not None:
        samples, inputs["inputs"] = read_samples(Path(recipe.inputs), own_metric=recipe.metric is not None)
    if recipe.metric is not None:
        metric = find_metric(recipe.metric)
        inputs["metric"] = metric.digest
    if recipe.calibration is not None:
        inputs["calibration"] = _digest("calibration", Path(recipe.calibration))
    if recipe.state_dict is not None:
        inputs["state_dict"] = _digest("state_dict", Path(recipe.state_dict))
    if source.tokenizer_identity is not None:
        inputs["tokenizer"] = hex_digest(source.tokenizer_identity.encode())
    exporter = choose_exporter(source, recipe)
    # What is built depends on the exporter, not on who chose it; optimum's keys are those of before there were two.
    counted = recipe._replace(exporter=exporter if exporter == TRANSFORMERS.name else AUTO_EXPORTER)
    key = build_key(source.identity, counted, inputs, EXPORTER_EPOCH)
    return BuildRequest(
        source=source,
        recipe=recipe,
        samples=samples,
        metric=metric,
        key=key,
        optional=optional,
        exporter=exporter,
    )


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
    named = {name: getattr(recipe, name) for name in ("inputs", "metric", "calibration", "state_dict")}
    if recipe.tokenizer is not None and recipe.tokenizer.startswith(("./", "../")):
        named["tokenizer"] = recipe.tokenizer
    paths: dict[str, Any] = {name: str(path.parent / text) for name, text in named.items() if text is not None}
    return recipe._replace(**paths)


def _digest(key: str, path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise RecipeError(f"{key}: {path} cannot be read: {error.strerror}.") from None
