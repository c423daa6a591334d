"""Recipes: what is asked of a build, and the build key that says whether it was ever built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modeldrop.errors import FormatError, RecipeError
from modeldrop.format.fields import Fields
from modeldrop.format.options import Options, read_options

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIANTS = (
    "fp32",
    "fp16",
    "int8-accurate",
    "int8",
    "int8-avx512-vnni",
    "int8-avx2",
    "int8-arm64",
    "uint8",
    "int8-static",
    "int4",
    "openvino-fp16",
    "openvino-int8",
    "openvino-int4",
)
"""The variants this release builds, from the most to the least exact."""

DEFAULT_VARIANTS = ("fp32", "int8")
"""What is built where the recipe names no variants."""

TASKS = (
    "feature-extraction",
    "text-classification",
    "token-classification",
    "text2text-generation",
    "text-generation",
    "image-classification",
    "zero-shot-image-classification",
    "automatic-speech-recognition",
)
"""The tasks this release builds, by the names that the Hugging Face Hub gives them."""

METRICS: dict[str, str] = {
    "cosine_mean": ">=",
    "cosine_min": ">=",
    "correlation": ">=",
    "top1": ">=",
    "max_abs": "<=",
    "neighbours": ">=",
    "kendall_tau": ">=",
    "top10": ">=",
    "top5": ">=",
    "greedy_prefix": ">=",
    "kl": "<=",
    "perplexity_gap": "<=",
}
"""Fidelity metrics, and on which side of its threshold a faithful value lies. ``selftest.metrics`` defines them."""

_EXACT = {
    "cosine_mean": 0.99999,
    "cosine_min": 0.9999,
    "correlation": 0.9999,
    "top1": 1.0,
    "max_abs": 1e-3,
    "neighbours": 0.99,
    "kendall_tau": 0.999,
    "top10": 1.0,
    "top5": 0.99,
    "greedy_prefix": 0.99,
    "kl": 1e-4,
    "perplexity_gap": 1e-3,
}
_HALF = {
    "cosine_mean": 0.9995,
    "cosine_min": 0.998,
    "correlation": 0.999,
    "top1": 0.98,
    "neighbours": 0.95,
    "kendall_tau": 0.98,
    "top10": 0.9,
    "top5": 0.95,
    "greedy_prefix": 0.9,
    "kl": 0.005,
    "perplexity_gap": 0.01,
}
_ACCURATE = {
    "cosine_mean": 0.995,
    "cosine_min": 0.98,
    "correlation": 0.995,
    "top1": 0.97,
    "neighbours": 0.9,
    "kendall_tau": 0.95,
    "top10": 0.9,
    "top5": 0.9,
    "greedy_prefix": 0.8,
    "kl": 0.02,
    "perplexity_gap": 0.03,
}
_SMALL = {
    "cosine_mean": 0.98,
    "cosine_min": 0.93,
    "correlation": 0.98,
    "top1": 0.95,
    "neighbours": 0.75,
    "kendall_tau": 0.85,
    "top10": 0.8,
    "top5": 0.8,
    "greedy_prefix": 0.5,
    "kl": 0.1,
    "perplexity_gap": 0.1,
}
_SMALLEST = {
    "cosine_mean": 0.94,
    "cosine_min": 0.8,
    "correlation": 0.94,
    "top1": 0.9,
    "neighbours": 0.6,
    "kendall_tau": 0.75,
    "top10": 0.7,
    "top5": 0.7,
    "greedy_prefix": 0.25,
    "kl": 0.3,
    "perplexity_gap": 0.3,
}
# What is asked of a variant unless the recipe says otherwise, by how much of the weights it keeps.
_DEFAULTS: dict[str, dict[str, float]] = {
    "fp32": _EXACT,
    "fp16": _HALF,
    "int8-accurate": _ACCURATE,
    "int8": _SMALL,
    "int8-avx512-vnni": _SMALL,
    "int8-avx2": _SMALL,
    "int8-arm64": _SMALL,
    "uint8": _SMALL,
    "int8-static": _SMALL,
    "int4": _SMALLEST,
    "openvino-fp16": _HALF,
    "openvino-int8": _ACCURATE,
    "openvino-int4": _SMALLEST,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is asked of a build, besides its source.

    Attributes:
        task: a Hub task name, or None to infer it from the model.
        variants: which variants to build, in the order of ``VARIANTS``.
        thresholds: per variant, metric to threshold, where they differ from the defaults.
        texts: path of a UTF-8 file with one text per line that replaces the built-in texts, or None.
        calibration: path of what int8-static takes the ranges of values from: texts, one per line, or numpy's ``.npz``
            with an array for every input of the graph; or None.
        options: per variant, what else is asked of it.
        max_length: tokens a text is cut to, or None for the model's own limit.
        tokenizer: where the tokenizer comes from, spelled as a source, or None for beside the weights.
        allow_pickle: load pickle weights where there are no safetensors.
        trust_remote_code: run Python code that comes with the model.
    """

    task: str | None = None
    variants: tuple[str, ...] = DEFAULT_VARIANTS
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    texts: str | None = None
    calibration: str | None = None
    options: Mapping[str, Options] = field(default_factory=dict)
    max_length: int | None = None
    tokenizer: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False

    def threshold(self, variant: str, metric: str) -> float | None:
        """The value that ``metric`` of ``variant`` must reach or stay below; None where nothing is asked."""
        own = self.thresholds.get(variant, {}).get(metric)
        return own if own is not None else _DEFAULTS.get(variant, {}).get(metric)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values, leaving out what has its default."""
        plain: dict[str, Any] = {"variants": list(self.variants)}
        for name in ("task", "texts", "calibration", "max_length", "tokenizer"):
            if getattr(self, name) is not None:
                plain[name] = getattr(self, name)
        for name in ("allow_pickle", "trust_remote_code"):
            if getattr(self, name):
                plain[name] = True
        if self.thresholds:
            plain["thresholds"] = {name: dict(limits) for name, limits in self.thresholds.items()}
        if self.options:
            plain["options"] = {name: options.to_json() for name, options in self.options.items()}
        return plain


def parse_recipe(value: object, *, strict: bool = True) -> Recipe:
    """Read a recipe from plain values (of TOML or JSON).

    Args:
        value: the mapping.
        strict: refuse unknown keys, variants and metrics, as for what a person writes. A recipe inside a
            manifest is read with ``strict=False``: it is a record of what another release was asked.

    Raises:
        RecipeError: naming the key (a FormatError where not ``strict``).
    """
    try:
        return read_recipe(Fields(value, "", "recipe"), strict=strict)
    except FormatError as error:
        if not strict:
            raise
        raise RecipeError(f"recipe: {error.message}" if error.field else error.message, error.hint) from None


def read_recipe(fields: Fields, *, strict: bool) -> Recipe:
    """Read a recipe from fields; see ``parse_recipe``.

    Raises:
        FormatError: naming the field from the root of the document that holds the recipe.
    """
    task = fields.text("task", default=None, limit=64)
    if strict and task is not None and task not in TASKS:
        fields.fail(f"{task!r} is not a task this release builds; it builds: {', '.join(TASKS)}", "task")
    variants = fields.texts("variants", limit=64, default=DEFAULT_VARIANTS)
    if strict:
        _check_variants(fields, variants)
        variants = tuple(name for name in VARIANTS if name in variants)
    limits = fields.child("thresholds", optional=True)
    options = fields.child("options", optional=True)
    recipe = Recipe(
        task=task,
        variants=variants,
        thresholds={name: _limits(limits, name, strict=strict) for name in limits.names()},
        texts=fields.text("texts", default=None, limit=4096),
        calibration=fields.text("calibration", default=None, limit=4096),
        options={name: _options(options, name, strict=strict) for name in options.names()},
        max_length=fields.integer("max_length", low=8, high=1 << 20, default=None),
        tokenizer=fields.text("tokenizer", default=None, limit=4096),
        allow_pickle=fields.boolean("allow_pickle", default=False),
        trust_remote_code=fields.boolean("trust_remote_code", default=False),
    )
    if strict:
        fields.refuse_unknown()
    return recipe


def _check_variants(fields: Fields, variants: tuple[str, ...]) -> None:
    if not variants:
        fields.fail("must name at least one variant", "variants")
    for index, name in enumerate(variants):
        if name not in VARIANTS:
            fields.fail(
                f"{name!r} is not a variant this release builds; it builds: {', '.join(VARIANTS)}",
                f"variants[{index}]",
            )
        if name in variants[:index]:
            fields.fail(f"{name!r} is named twice", f"variants[{index}]")


def _options(fields: Fields, variant: str, *, strict: bool) -> Options:
    _check_known(fields, variant, strict=strict)
    return read_options(fields.child(variant), variant, strict=strict)


def _check_known(fields: Fields, variant: str, *, strict: bool) -> None:
    if strict and variant not in VARIANTS:
        fields.fail(f"is not a variant; the variants are: {', '.join(VARIANTS)}", variant)


def _limits(fields: Fields, variant: str, *, strict: bool) -> dict[str, float]:
    _check_known(fields, variant, strict=strict)
    limits = fields.child(variant)
    result: dict[str, float] = {}
    for metric in limits.names():
        if strict and metric not in METRICS:
            limits.fail(f"is not a metric; the metrics are: {', '.join(METRICS)}", metric)
        result[metric] = limits.number(metric)
    return result


def build_key(source: str, recipe: Recipe, inputs: Mapping[str, str], epoch: int) -> str:
    """The digest that decides whether something was already built: 64 hexadecimal digits.

    Args:
        source: identity of the source, such as ``hf:org/name@<commit>`` or ``sha256:<digest of a folder>``.
        recipe: what is asked.
        inputs: SHA-256 of every file that the recipe names, by the recipe's key.
        epoch: the exporter epoch: raised when our output changes on purpose.
    """
    asked = recipe.to_json()
    # A file counts by what is in it, not by where it lies.
    asked.update({name: f"sha256:{digest}" for name, digest in inputs.items()})
    plain = {"source": source, "recipe": asked, "epoch": epoch}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
