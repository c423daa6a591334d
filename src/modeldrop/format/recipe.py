"""Recipes: what is asked of a build, and the build key that says whether it was ever built."""

from __future__ import annotations

import json
import math
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from modeldrop.errors import FormatError, RecipeError
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import hex_digest
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import DEFAULT_VARIANTS, FP32, OPTIMIZED, VARIANTS
from modeldrop.util.values import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Mapping

OPSETS = range(14, 21)
"""The versions of ONNX's operators that a recipe can ask for."""


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

OWN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What an own metric may be called."""
THRESHOLD_FORMS = '">= 0.9", "<= 0.1", or as a share of the original\'s value, ">= 99%"'
"""How such a threshold is written, for messages."""
_LIMIT = re.compile(r"(?P<side>>=|<=) ?(?P<number>-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?)(?P<share> ?%)?")


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a value must reach, or stay below.

    Attributes:
        side: ``>=`` or ``<=``.
        number: the value; or percent of the original's value.
        relative: whether it is percent.
    """

    side: str
    number: float
    relative: bool = False

    def value(self, original: float) -> float:
        """The value that is asked where the original has ``original``."""
        return self.number / 100 * original if self.relative else self.number

    def holds(self, value: float, original: float) -> bool:
        """Whether a value is on the good side, where the original has ``original``."""
        return value >= self.value(original) if self.side == ">=" else value <= self.value(original)

    def __str__(self) -> str:
        return f"{self.side} {self.number!r}".removesuffix(".0") + ("%" if self.relative else "")


def parse_threshold(text: str) -> Threshold | None:
    """Read a threshold such as ``>= 0.9`` or ``<= 105%``; None where it is none."""
    match = _LIMIT.fullmatch(text)
    if match is None or not math.isfinite(number := float(match["number"])):
        return None
    return Threshold(match["side"], number, match["share"] is not None)


_SIZE = re.compile(r"(?P<number>[0-9]{1,12}(\.[0-9]{1,6})?) ?(?P<unit>%|kB|MB|GB)")
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
_MAX_PATTERNS = 1000


@dataclass(frozen=True, slots=True)
class VariantOptions:
    """What is asked of one variant.

    Attributes:
        max_size: the most its graphs and weights may take: a share of fp32's (``27%``), or bytes (``25 MB``); "" for
            any size.
        must_be_faster: by how much it must be faster than fp32, 1.0 for faster at all; 0.0 for no such gate.
        keep_layers: patterns, with ``*`` and ``?``, of the names of nodes that stay as they are in fp32.
        auto: search for the smallest one that meets the thresholds.
    """

    max_size: str = ""
    must_be_faster: float = 0.0
    keep_layers: tuple[str, ...] = ()
    auto: bool = False

    def most_bytes(self, fp32: int) -> float:
        """The most bytes that are allowed where fp32 has so many; infinite without a gate."""
        match = _SIZE.fullmatch(self.max_size)
        if match is None:
            return float("inf")
        number = float(match["number"])
        return number / 100 * fp32 if match["unit"] == "%" else number * _UNITS[match["unit"]]

    def to_json(self) -> dict[str, Any]:
        """The options as plain values, leaving out what has its default."""
        plain: dict[str, Any] = {}
        if self.max_size:
            plain["max_size"] = self.max_size
        if self.must_be_faster:
            plain["must_be_faster"] = self.must_be_faster
        if self.keep_layers:
            plain["keep_layers"] = list(self.keep_layers)
        if self.auto:
            plain["auto"] = True
        return plain


def read_options(fields: Fields, variant: str, *, strict: bool) -> VariantOptions:
    """Read the options of a variant.

    Args:
        fields: them.
        variant: its name.
        strict: refuse unknown keys, and what this variant cannot do.

    Raises:
        FormatError: naming the field.
    """
    options = VariantOptions(
        max_size=fields.text("max_size", default="", limit=64, pattern=_SIZE if strict else None),
        must_be_faster=_speed(fields),
        keep_layers=fields.texts("keep_layers", limit=_MAX_PATTERNS, default=()),
        auto=fields.boolean("auto", default=False),
    )
    if strict:
        fields.refuse_unknown()
        spec = VARIANTS[variant]
        if options.auto and not spec.searched:
            others = ", ".join(name for name, other in VARIANTS.items() if other.searched)
            fields.fail(f"{variant} is made in one way only; there is a search for: {others}", "auto")
        if options.keep_layers and spec.quantizer == OPTIMIZED:
            fields.fail("layers are fused, not quantized, and a fused one has no name of its own", "keep_layers")
        if spec is FP32 and options.to_json():
            fields.fail("fp32 is what the others are made of and measured by", next(iter(options.to_json())))
    return options


def _speed(fields: Fields) -> float:
    if not fields.has("must_be_faster"):
        return 0.0
    value = fields.flag_or_number("must_be_faster")
    if not 0 <= value <= 1000:
        fields.fail("must be true, false, or how many times as fast as fp32, from 0 to 1000", "must_be_faster")
    return value


# A module or a file, and a function in it.
_METRIC = re.compile(r"[^\0]+:[A-Za-z_][A-Za-z0-9_]*")
_MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is asked of a build, besides its source.

    Attributes:
        task: a Hub task name, or None to infer it from the model.
        variants: which variants to build, in the order of ``VARIANTS``; () for those that suit the source.
        thresholds: per variant, metric to threshold, where they differ from the defaults.
        inputs: path of what the variants are proven on instead of built-in inputs: a UTF-8 file with one text per line,
            a ``.jsonl`` file with one JSON value per line, or a folder of pictures or recordings; or None.
        metric: an own metric, ``module:function`` or ``file.py:function``; or None.
        own_thresholds: per variant, thresholds of the figures that the own metric gives, by their name.
        calibration: path of what int8-static takes the ranges of values from: texts, one per line, or numpy's ``.npz``
            with an array for every input of the graph; or None.
        options: per variant, what else is asked of it.
        max_length: tokens a text is cut to, or None for the model's own limit.
        opset: version of ONNX's operators to export with, one of ``OPSETS``; None for the one that suits the model.
        tokenizer: where the tokenizer comes from, spelled as a source, or None for beside the weights.
        allow_pickle: load pickle weights where there are no safetensors.
        trust_remote_code: run Python code that comes with the model.
    """

    task: str | None = None
    variants: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    inputs: str | None = None
    metric: str | None = None
    own_thresholds: Mapping[str, Mapping[str, Threshold]] = field(default_factory=dict)
    calibration: str | None = None
    options: Mapping[str, VariantOptions] = field(default_factory=dict)
    max_length: int | None = None
    opset: int | None = None
    tokenizer: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False

    def threshold(self, variant: str, metric: str) -> float | None:
        """The value that ``metric`` of ``variant`` must reach or stay below; None where nothing is asked."""
        own = self.thresholds.get(variant, {}).get(metric)
        if own is not None:
            return own
        spec = VARIANTS.get(variant)
        return None if spec is None else spec.threshold(metric)

    def side(self, metric: str) -> str | None:
        """On which side of its threshold a good value of a metric lies, ``>=`` or ``<=``; None where nothing says."""
        own = (limits[metric].side for limits in self.own_thresholds.values() if metric in limits)
        return METRICS.get(metric) or next(own, None)

    def without_folders(self) -> Recipe:
        """The same with files named, and not where they lay on the machine that built: a manifest is for everybody."""
        tokenizer = self.tokenizer
        local = tokenizer is not None and tokenizer.startswith((".", "/", "~"))
        return replace(
            self,
            inputs=_name(self.inputs),
            metric=_name(self.metric),
            calibration=_name(self.calibration),
            tokenizer=_name(tokenizer) if local else tokenizer,
        )

    def to_json(self) -> dict[str, Any]:
        """The recipe as people write it, in plain values, leaving out what has its default."""
        plain: dict[str, Any] = {"variants": list(self.variants)} if self.variants else {}
        for name in ("task", "inputs", "metric", "calibration", "max_length", "opset", "tokenizer"):
            if getattr(self, name) is not None:
                plain[name] = getattr(self, name)
        for name in ("allow_pickle", "trust_remote_code"):
            if getattr(self, name):
                plain[name] = True
        if self.thresholds or self.own_thresholds:
            limits = _plain_limits(self.thresholds)
            for name, own in self.own_thresholds.items():
                limits.setdefault(name, {}).update({metric: str(limit) for metric, limit in own.items()})
            plain["thresholds"] = limits
        if self.options:
            plain["options"] = {name: options.to_json() for name, options in self.options.items()}
        return plain

    def to_record(self) -> dict[str, Any]:
        """The recipe as manifests hold it: thresholds of own metrics apart, for every release reads only numbers."""
        plain = self.to_json() | {"variants": list(self.variants)}
        if self.own_thresholds:
            plain["own_thresholds"] = {
                name: {metric: str(limit) for metric, limit in own.items()} for name, own in self.own_thresholds.items()
            }
            plain["thresholds"] = _plain_limits(self.thresholds)
        return plain


def _name(path: str | None) -> str | None:
    return None if path is None else PurePosixPath(path).name


def _plain_limits(thresholds: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    return {name: dict(limits) for name, limits in thresholds.items()}


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
    # A record without any is of a release that knew but one default.
    variants = fields.texts("variants", limit=64, default=() if strict else DEFAULT_VARIANTS)
    if strict and fields.has("variants"):
        _check_variants(fields, variants)
        variants = tuple(name for name in VARIANTS if name in variants)
    metric = fields.text("metric", default=None, limit=_MAX_PATH)
    if strict and metric is not None and not _METRIC.fullmatch(metric):
        fields.fail(f"{metric[:80]!r} is neither module:function nor file.py:function", "metric")
    thresholds, own_thresholds = _asked_limits(fields, own=metric is not None) if strict else _recorded_limits(fields)
    options = fields.child("options", optional=True)
    recipe = Recipe(
        task=task,
        variants=variants,
        thresholds=thresholds,
        inputs=_inputs(fields),
        metric=metric,
        own_thresholds=own_thresholds,
        calibration=fields.text("calibration", default=None, limit=_MAX_PATH),
        options={name: _options(options, name, strict=strict) for name in options.names()},
        max_length=fields.integer("max_length", low=8, high=1 << 20, default=None),
        opset=_opset(fields, strict=strict),
        tokenizer=fields.text("tokenizer", default=None, limit=_MAX_PATH),
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


def _options(fields: Fields, variant: str, *, strict: bool) -> VariantOptions:
    _check_known(fields, variant, strict=strict)
    return read_options(fields.child(variant), variant, strict=strict)


def _check_known(fields: Fields, variant: str, *, strict: bool) -> None:
    if strict and variant not in VARIANTS:
        fields.fail(f"is not a variant; the variants are: {', '.join(VARIANTS)}", variant)


def _opset(fields: Fields, *, strict: bool) -> int | None:
    # A record may be of a release whose exporter knew others.
    low, high = (OPSETS[0], OPSETS[-1]) if strict else (1, 1 << 31)
    opset: int | None = fields.integer("opset", low=low, high=high, default=None)
    return opset


def _inputs(fields: Fields) -> str | None:
    """``inputs``, which were called ``texts`` while they could be nothing else."""
    named = [name for name in ("inputs", "texts") if fields.has(name)]
    if len(named) > 1:
        fields.fail("is the former name of inputs; write inputs alone", "texts")
    inputs: str | None = fields.text("inputs", default=None, limit=_MAX_PATH)
    texts: str | None = fields.text("texts", default=None, limit=_MAX_PATH)
    return texts if inputs is None else inputs


_Thresholds: TypeAlias = dict[str, dict[str, float]]
_Limits: TypeAlias = dict[str, dict[str, Threshold]]


def _asked_limits(fields: Fields, *, own: bool) -> tuple[_Thresholds, _Limits]:
    """Thresholds as people write them: numbers for our metrics, limits for those of an own one, if there is one."""
    table = fields.child("thresholds", optional=True)
    thresholds: _Thresholds = {}
    limits: _Limits = {}
    for variant in table.names():
        _check_known(table, variant, strict=True)
        asked = table.child(variant)
        ours = {name: _number(asked, name) for name in asked.names() if name in METRICS}
        others = {name: _own_limit(asked, name, own=own) for name in asked.names() if name not in METRICS}
        if others:
            limits[variant] = others
        if ours or not others:
            thresholds[variant] = ours
    _check_sides(table, limits)
    return thresholds, limits


def _number(fields: Fields, name: str) -> float:
    if isinstance(fields.value(name), str):
        fields.fail("is measured against the original already; write a number alone, such as 0.98", name)
    return float(fields.number(name))


def _own_limit(fields: Fields, name: str, *, own: bool) -> Threshold:
    if not own or not OWN_NAME.fullmatch(name):
        more = "" if own else '; others are measured by an own metric (metric = "module:function")'
        fields.fail(f"is not a metric; the metrics are: {', '.join(METRICS)}{more}", name)
    text = fields.value(name)
    limit = parse_threshold(text) if isinstance(text, str) else None
    if limit is None:
        fields.fail(f"a threshold of an own metric is written {THRESHOLD_FORMS}", name)
    return limit


def _check_sides(fields: Fields, limits: _Limits) -> None:
    sides: dict[str, str] = {}
    for variant, own in limits.items():
        for metric, limit in own.items():
            if sides.setdefault(metric, limit.side) != limit.side:
                fields.fail(f"{metric} is {limit.side} here and {sides[metric]} above; which is good?", variant)


def _recorded_limits(fields: Fields) -> tuple[_Thresholds, _Limits]:
    table, own = (fields.child(name, optional=True) for name in ("thresholds", "own_thresholds"))
    thresholds: _Thresholds = {}
    limits: _Limits = {}
    for variant in table.names():
        asked = table.child(variant)
        thresholds[variant] = {metric: asked.number(metric) for metric in asked.names()}
    for variant in own.names():
        asked = own.child(variant)
        found = {metric: parse_threshold(asked.text(metric, limit=64)) for metric in asked.names()}
        # How a later release writes one is its own business: here it is a record.
        limits[variant] = {metric: limit for metric, limit in found.items() if limit is not None}
    return thresholds, limits


def build_key(source: str, recipe: Recipe, inputs: Mapping[str, str], epoch: int) -> str:
    """The digest that decides whether something was already built: 64 hexadecimal digits.

    Args:
        source: identity of the source, such as ``hf:org/name@<commit>`` or ``sha256:<digest of a folder>``.
        recipe: what is asked.
        inputs: SHA-256 of what the recipe names on the disk, by the recipe's key.
        epoch: the exporter epoch: raised when our output changes on purpose.
    """
    # A recipe that names none has the key of one that names the default, as it always had.
    asked = {"variants": list(DEFAULT_VARIANTS)} | recipe.to_json()
    # A file counts by what is in it, not by where it lies.
    asked.update({name: f"sha256:{digest}" for name, digest in inputs.items()})
    if "inputs" in asked:
        # The key of what was built while they were called texts must stay the same.
        asked["texts"] = asked.pop("inputs")
    plain = {"source": source, "recipe": asked, "epoch": epoch}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hex_digest(text.encode())
