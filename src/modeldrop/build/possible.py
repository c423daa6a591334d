"""Can the variants of a recipe be made of this model, and here? Asked before slow work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.build.calibration import check_calibration
from modeldrop.build.variants import FP32, KINDS, STATIC
from modeldrop.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from modeldrop.build.tasks import Family
    from modeldrop.format.recipe import Recipe

_SECONDS = 60
_LIBRARIES = {"openvino": ("openvino", "nncf")}


def check_variants(recipe: Recipe, config: Mapping[str, Any], family: Family) -> None:
    """Refuse what cannot be made.

    Args:
        recipe: what is asked.
        config: the model's config.json.
        family: the model's.

    Raises:
        RecipeError: a variant is not for this model, lacks calibration data, or has a gate without fp32 to compare.
        MissingExtraError: the exporter's environment lacks a library.
    """
    for name in recipe.variants:
        kind = KINDS[name]
        if kind.one_graph and len(family.graphs) > 1:
            raise RecipeError(
                f"{name} is for models of one graph; this one has {', '.join(family.graphs)}.",
                f"Leave {name} out of the recipe's variants; int8 and int4 are made of every model.",
            )
        if kind.extra:
            _check_extra(name, kind.extra)
        if kind.maker == STATIC:
            if recipe.calibration is None:
                raise RecipeError(
                    f"{name} needs calibration data.",
                    "Name inputs like those it will get: calibration = a file of texts, or of arrays (.npz).",
                )
            check_calibration(Path(recipe.calibration), config, takes_texts=family.takes_texts)
    for name, options in recipe.options.items():
        if name not in recipe.variants:
            raise RecipeError(f"options.{name}: the recipe's variants are {', '.join(recipe.variants)}.")
        if options.must_be_faster and FP32.name not in recipe.variants:
            raise RecipeError(f"options.{name}.must_be_faster compares with fp32.", "Add fp32 to the variants.")


def _check_extra(variant: str, extra: str) -> None:
    python = os.environ.get("MODELDROP_EXPORTER_PYTHON") or sys.executable
    looking = f"import sys, importlib.util as u; sys.exit(0 if all(map(u.find_spec, {_LIBRARIES[extra]!r})) else 3)"
    try:
        found = subprocess.run(
            [python, "-P", "-c", looking], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # the export says what is wrong with this interpreter
    if found.returncode == 3:
        raise MissingExtraError(
            f"{variant} needs {' and '.join(_LIBRARIES[extra])}, not installed in the exporter's environment.",
            f"pip install 'modeldrop[build,{extra}]', or leave {variant} out of the recipe's variants.",
        )
