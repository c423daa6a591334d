"""Refuse variants that cannot be made of this model, or in this environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modeldrop.errors import MissingExtraError, RecipeError
from modeldrop.export.exporter_choice import find_interpreter
from modeldrop.export.models import family_of
from modeldrop.export.preflight.calibration import check_calibration
from modeldrop.export.request import BuildRequest
from modeldrop.export.variants import FUSIBLE, LIBRARIES, WITHOUT_PRODUCTS, makeable
from modeldrop.format.recipe import Recipe
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import FP32, OPENVINO, STATIC, VARIANTS, WEIGHT_ONLY, VariantSpec

_SECONDS = 60
# Its weights use a type of opset 21, so the graph gets that opset; before 18, operators had other signatures.
_INT4_OPSET = 18
_WHOLE = 32  # bits of fp32, which gates compare with


def check_variants(
    request: BuildRequest,
    config: Mapping[str, Any],
    task: str,
    graphs: Sequence[str],
    origin: VariantSpec = FP32,
) -> None:
    """Refuse what cannot be made.

    Args:
        request: its recipe has the variants and their options.
        config: the model's config.json.
        task: what it is built for.
        graphs: roles of its graphs.
        origin: the variant that the source's graphs are, of which all others are made.

    Raises:
        RecipeError: a variant is not for this model, lacks calibration data, or has a gate without fp32 to compare.
        MissingExtraError: the exporter's environment lacks a library.
    """
    recipe = request.recipe
    _check_makeable(recipe, origin)
    for name in recipe.variants:
        spec = VARIANTS[name]
        if spec.one_graph and len(graphs) > 1:
            raise RecipeError(
                f"{name} is for models of one graph; this one has {', '.join(graphs)}.",
                f"Leave {name} out of the recipe's variants; o1, int8 and int4 are made of every model.",
            )
        if spec.fuses and config.get("model_type") not in FUSIBLE:
            raise RecipeError(
                f"{name} is for models whose layers onnxruntime can fuse; this one is {config.get('model_type')}.",
                f"They are: {', '.join(FUSIBLE)}. o1 is made of every model.",
            )
        if spec.quantizer == WEIGHT_ONLY and config.get("model_type") in WITHOUT_PRODUCTS:
            raise RecipeError(
                f"{name} makes matrix products smaller, and a {config['model_type']} has none: it would be a copy.",
                f"Leave {name} out of the recipe's variants; of convolutions, fp16 and int8-static are smaller.",
            )
        if spec.extra:
            _check_extra(name, spec.extra, origin, request)
        if spec.quantizer == STATIC:
            if recipe.calibration is None:
                raise RecipeError(
                    f"{name} needs calibration data.",
                    "Name inputs like those it will get: calibration = a file of texts, or of arrays (.npz).",
                )
            kind = "text" if TASKS[task].texts[1] else family_of(task).input_kind
            check_calibration(Path(recipe.calibration), config, kind)
    for name, options in recipe.options.items():
        if name not in recipe.variants:
            raise RecipeError(f"options.{name}: the recipe's variants are {', '.join(recipe.variants)}.")
        if options.must_be_faster and origin.name not in recipe.variants:
            raise RecipeError(
                f"options.{name}.must_be_faster compares with {origin.name}.", f"Add {origin.name} to the variants."
            )


def _check_makeable(recipe: Recipe, origin: VariantSpec) -> None:
    """Refuse variants, and gates on them, that ready graphs which are not ONNX's in fp32 do not give."""
    if origin is FP32:
        return
    what = (
        f"this source is an OpenVINO graph whose weights have {origin.options['bits']} bits"
        if origin.quantizer == OPENVINO
        else f"this source's graphs are {origin.name} already"
    )
    wrong = [name for name in recipe.variants if name not in makeable(origin)]
    if wrong:
        raise RecipeError(
            f"{', '.join(wrong)} cannot be made: {what}.",
            f"These can: {', '.join(makeable(origin))}. For others, build from the model that it was made of.",
        )
    for name, options in recipe.options.items():
        if options.keep_layers and name == origin.name:
            raise RecipeError(
                f"options.{name}.keep_layers: {what}, and they stay as they are.", "Leave keep_layers out."
            )
        if origin.options.get("bits", 0) < _WHOLE and (options.must_be_faster or options.max_size.endswith("%")):
            raise RecipeError(
                f"options.{name}: {what}, so that there is no fp32 to compare with.",
                'Leave must_be_faster out, and write max_size in bytes ("25 MB").',
            )


def check_export(recipe: Recipe, task: str, *, ready: bool) -> None:
    """Refuse what the export would pass over in silence.

    Args:
        recipe: the variants and their options.
        task: what the model is built for.
        ready: whether the source holds graphs instead of weights.

    Raises:
        RecipeError: it asks for an opset of graphs that are there already, or one that a variant cannot be made of; or
            it cuts texts of a model that reads none.
    """
    if recipe.opset is not None and ready:
        raise RecipeError(
            "opset: this source has ready graphs, which keep the opset they were exported with.",
            "Leave opset out, or build from the weights.",
        )
    if recipe.opset is not None and recipe.opset < _INT4_OPSET and "int4" in recipe.variants:
        raise RecipeError(
            f"opset: int4 is made of graphs of opset {_INT4_OPSET} or later, not of {recipe.opset}.",
            "Raise opset, leave it out, or leave int4 out of the variants.",
        )
    if recipe.max_length is not None and not TASKS[task].texts[1]:
        raise RecipeError(f"max_length: a model for {task} reads no texts.", "Leave max_length out of the recipe.")


def _check_extra(variant: str, extra: str, origin: VariantSpec, request: BuildRequest) -> None:
    try:
        python = find_interpreter(request.source, request.exporter)
    except MissingExtraError:
        python = sys.executable  # the build says so; the action looks before it installs one
    looking = f"import sys, importlib.util as u; sys.exit(0 if all(map(u.find_spec, {LIBRARIES[extra]!r})) else 3)"
    try:
        found = subprocess.run(
            [python, "-P", "-c", looking], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # the export says what is wrong with this interpreter
    if found.returncode == 3:
        without = f"leave {variant} out of the recipe's variants"
        other = "build from the model that this graph was made of"
        raise MissingExtraError(
            f"{variant} needs {' and '.join(LIBRARIES[extra])}, not installed in the exporter's environment.",
            f"pip install 'modeldrop[build,{extra}]', or {other if origin.extra == extra else without}.",
        )
