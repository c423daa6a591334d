"""Recipes: what a build should make, and the build key that tells whether it was made before."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from modeldrop.errors import FormatError, RecipeError
from modeldrop.format.codec import (
    BooleanField,
    ChoiceField,
    Field,
    IntegerField,
    ListField,
    MapField,
    NumberField,
    ObjectField,
    Record,
    TextField,
)
from modeldrop.format.dynamic_shapes import DynamicShapesField
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import OWN_NAME, hex_digest
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import DEFAULT_VARIANTS, FP32, OPTIMIZED, VARIANTS
from modeldrop.util.named_tuples import NamedTuple

OPSETS = range(14, 21)
"""The versions of ONNX's operators that a recipe can ask for."""


AUTO_EXPORTER = "auto"
EXPORTER_NAMES = (AUTO_EXPORTER, "optimum", "transformers")
"""What a recipe can say of the exporter: the one that suits, or its name."""


EXTERNAL_DATA = ("auto", "always", "never")
"""Whether a graph's weights lie in a file beside it; auto decides by their bytes."""


METRICS: dict[str, str] = {
    "cosine_mean": ">=",
    "cosine_min": ">=",
    "correlation": ">=",
    "top1": ">=",
    "decisions": ">=",
    "spans": ">=",
    "transcript": ">=",
    "boxes": ">=",
    "iou": ">=",
    "nrmse": "<=",
    "max_abs": "<=",
    "neighbours": ">=",
    "sparse_cosine": ">=",
    "tokens_cosine": ">=",
    "kendall_tau": ">=",
    "top10": ">=",
    "top5": ">=",
    "greedy_prefix": ">=",
    "kl": "<=",
    "perplexity_gap": "<=",
    "abs_error": "<=",
    "rel_error": "<=",
    "label_agreement": ">=",
    "rank_agreement": ">=",
}
"""Fidelity metrics, and on which side of its threshold a faithful value lies. ``inference.metrics`` defines them."""
PERFECT = {">=": 1.0, "<=": 0.0}
"""The original's own value, by that side."""

THRESHOLD_FORMS = '">= 0.9", "<= 0.1", or as a share of the original\'s value, ">= 99%"'
"""How such a threshold is written, for messages."""
THRESHOLD = re.compile(
    r"(?P<side>>=|<=) ?(?P<number>-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?)(?P<share> ?%)?"
)


class Threshold(NamedTuple):
    """What a figure of an own metric must reach, or stay below.

    Attributes:
        side: ``>=`` or ``<=``.
        number: the value; or percent of the original's value.
        relative: whether it is percent.
    """

    side: str
    number: float
    relative: bool = False

    def value(self, original: float) -> float:
        """The value that is required where the original has ``original``."""
        return self.number / 100 * original if self.relative else self.number

    def holds(self, value: float, original: float) -> bool:
        """Whether a value is on the good side, where the original has ``original``."""
        return value >= self.value(original) if self.side == ">=" else value <= self.value(original)

    def __str__(self) -> str:
        return f"{self.side} {self.number!r}".removesuffix(".0") + ("%" if self.relative else "")


def parse_threshold(text: str) -> Threshold | None:
    """Read a threshold such as ``>= 0.9`` or ``<= 105%``; None where it is none."""
    match = THRESHOLD.fullmatch(text)
    if match is None or not math.isfinite(number := float(match["number"])):
        return None
    return Threshold(match["side"], number, match["share"] is not None)


_SIZE = re.compile(r"(?P<number>[0-9]{1,12}(\.[0-9]{1,6})?) ?(?P<unit>%|kB|MB|GB)")
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


class VariantOptions(NamedTuple):
    """What a variant must meet besides thresholds, and how it is made.

    ``max_size`` is "" where any size will do, ``must_be_faster`` 1.0 where it must be faster than fp32 at all and 0.0
    where it need not be.
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


class FactorField(Field):
    """How many times as fast as fp32: true is 1, false is 0."""

    high = 1000

    def read(self, fields: Fields, name: str) -> float:
        if not fields.has(name):
            return 0.0
        value = fields.flag_or_number(name)
        if not 0 <= value <= self.high:
            fields.fail(f"must be true, false, or how many times as fast as fp32, from 0 to {self.high}", name)
        return value


def _variant_options(*, strict: bool) -> Record[VariantOptions]:
    return Record(
        VariantOptions,
        strict=strict,
        max_size=TextField(
            "The most its graphs and weights may take: a share of fp32's (27%), or bytes (25 MB).",
            pattern=_SIZE if strict else None,
            limit=64,
            default="",
            omit=True,
        ),
        must_be_faster=FactorField(
            "Whether it must be faster than fp32, or how many times as fast.", default=0.0, omit=True
        ),
        keep_layers=ListField(
            "Patterns, with * and ?, of the names of nodes that stay as they are in fp32.",
            TextField("A pattern."),
            limit=1000,
            default=(),
            omit=True,
        ),
        auto=BooleanField("Search for the smallest one that meets the thresholds.", default=False, omit=True),
    )


# What people write, and what manifests record, where options of later releases are no error.
WRITTEN_OPTIONS = _variant_options(strict=True)
RECORDED_OPTIONS = _variant_options(strict=False)


class Recipe(NamedTuple):
    """What a build should make, besides its source.

    None stands for what suits the model. ``variants`` are in the order of ``VARIANTS``, () for those that suit the
    source. ``thresholds`` are, per variant, those that differ from the defaults; ``own_thresholds`` those of the
    figures that the own metric gives.
    """

    task: str | None = None
    variants: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = {}
    inputs: str | None = None
    metric: str | None = None
    own_thresholds: Mapping[str, Mapping[str, Threshold]] = {}
    calibration: str | None = None
    options: Mapping[str, VariantOptions] = {}
    max_length: int | None = None
    truncate_dim: int | None = None
    opset: int | None = None
    exporter: str = AUTO_EXPORTER
    external_data: str = EXTERNAL_DATA[0]
    tokenizer: str | None = None
    files: tuple[str, ...] = ()
    state_dict: str | None = None
    dynamic_shapes: Mapping[str, Mapping[str, str]] = {}
    allow_pickle: bool = False
    trust_remote_code: bool = False
    trust_code: bool = False

    def threshold(self, variant: str, metric: str) -> float | None:
        """The value that ``metric`` of ``variant`` must reach or stay below; None where nothing is required."""
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
        """The same with names of files instead of paths, which mean nothing on other machines."""
        tokenizer = self.tokenizer
        local = tokenizer is not None and tokenizer.startswith((".", "/", "~"))
        return self._replace(
            inputs=_name(self.inputs),
            metric=_name(self.metric),
            calibration=_name(self.calibration),
            state_dict=_name(self.state_dict),
            tokenizer=_name(tokenizer) if local else tokenizer,
        )

    def to_json(self) -> dict[str, Any]:
        """The recipe as people write it, in plain values, leaving out what has its default."""
        return WRITTEN_RECIPE.write(self)


def _name(path: str | None) -> str | None:
    return None if path is None else PurePosixPath(path).name


class InputsField(TextField):
    """``inputs``, which were called ``texts`` while they could be nothing else."""

    former = "texts"

    def read(self, fields: Fields, name: str) -> Any:
        if fields.has(name) and fields.has(self.former):
            fields.fail(f"is the former name of {name}; write {name} alone", self.former)
        value = super().read(fields, name)
        return super().read(fields, self.former) if value is None else value


class MetricField(TextField):
    """A function, by its module or file."""

    function = re.compile(r"[^\0]+:[A-Za-z_][A-Za-z0-9_]*")

    def read(self, fields: Fields, name: str) -> Any:
        value = super().read(fields, name)
        if value is not None and not self.function.fullmatch(value):
            fields.fail(f"{value[:80]!r} is neither module:function nor file.py:function", name)
        return value


class VariantsField(Field):
    """A list of variants, which is not empty; in the class, in the order of ``VARIANTS``."""

    def read(self, fields: Fields, name: str) -> tuple[str, ...]:
        variants: tuple[str, ...] = fields.texts(name, limit=64, default=())
        if fields.has(name) and not variants:
            fields.fail("must name at least one variant", name)
        for index, variant in enumerate(variants):
            if variant not in VARIANTS:
                wrong = f"{variant!r} is not a variant this release builds; it builds: {', '.join(VARIANTS)}"
                fields.fail(wrong, f"{name}[{index}]")
            if variant in variants[:index]:
                fields.fail(f"{variant!r} is named twice", f"{name}[{index}]")
        return tuple(variant for variant in VARIANTS if variant in variants)

    def write(self, value: tuple[str, ...]) -> list[str]:
        return list(value)


class OptionsField(MapField):
    """What people ask of variants besides thresholds, by variant."""

    def __init__(self, description: str) -> None:
        super().__init__(description, ObjectField(WRITTEN_OPTIONS), default={}, omit=True)

    def read(self, fields: Fields, name: str) -> dict[str, VariantOptions]:
        inner = fields.child(name, optional=True)
        read: dict[str, VariantOptions] = {}
        for variant in inner.names():
            _check_variant(inner, variant)
            read[variant] = options = WRITTEN_OPTIONS.read(inner.child(variant))
            spec = VARIANTS[variant]
            if options.auto and not spec.searched:
                others = ", ".join(name for name, other in VARIANTS.items() if other.searched)
                wrong = f"{variant} is made in one way only; there is a search for: {others}"
                inner.fail(wrong, f"{variant}.auto")
            if options.keep_layers and spec.quantizer == OPTIMIZED:
                wrong = "layers are fused, not quantized, and a fused one has no name of its own"
                inner.fail(wrong, f"{variant}.keep_layers")
            if spec is FP32 and (named := list(WRITTEN_OPTIONS.write(options))):
                inner.fail("fp32 is what the others are made of and measured by", f"{variant}.{named[0]}")
        return read


class ThresholdsField(Field):
    """Thresholds as people write them: numbers for our metrics, a text such as ``>= 99%`` for those of an own one.

    In the class, they are apart.
    """

    def read_into(self, arguments: dict[str, Any], fields: Fields, name: str) -> None:
        has_own = fields.has("metric")
        table = fields.child(name, optional=True)
        thresholds: dict[str, dict[str, float]] = {}
        own_thresholds: dict[str, dict[str, Threshold]] = {}
        for variant in table.names():
            _check_variant(table, variant)
            inner = table.child(variant)
            ours = {metric: _number(inner, metric) for metric in inner.names() if metric in METRICS}
            own = {metric: _own(inner, metric, has_own=has_own) for metric in inner.names() if metric not in METRICS}
            if own:
                own_thresholds[variant] = own
            if ours or not own:
                thresholds[variant] = ours
        _check_sides(table, own_thresholds)
        arguments |= {"thresholds": thresholds, "own_thresholds": own_thresholds}

    def write_into(self, plain: dict[str, Any], owner: Recipe, name: str) -> None:
        written: dict[str, dict[str, float | str]] = {
            variant: dict(thresholds) for variant, thresholds in owner.thresholds.items()
        }
        for variant, own in owner.own_thresholds.items():
            written.setdefault(variant, {}).update({metric: str(threshold) for metric, threshold in own.items()})
        if written:
            plain[name] = written


def _check_variant(fields: Fields, variant: str) -> None:
    if variant not in VARIANTS:
        fields.fail(f"is not a variant; the variants are: {', '.join(VARIANTS)}", variant)


def _number(fields: Fields, name: str) -> float:
    if isinstance(fields.value(name), str):
        fields.fail("is measured against the original already; write a number alone, such as 0.98", name)
    return float(fields.number(name))


def _own(fields: Fields, name: str, *, has_own: bool) -> Threshold:
    if not has_own or not OWN_NAME.fullmatch(name):
        more = "" if has_own else '; others are measured by an own metric (metric = "module:function")'
        fields.fail(f"is not a metric; the metrics are: {', '.join(METRICS)}{more}", name)
    text = fields.value(name)
    threshold = parse_threshold(text) if isinstance(text, str) else None
    if threshold is None:
        fields.fail(f"a threshold of an own metric is written {THRESHOLD_FORMS}", name)
    return threshold


def _check_sides(fields: Fields, own_thresholds: Mapping[str, Mapping[str, Threshold]]) -> None:
    sides: dict[str, str] = {}
    for variant, own in own_thresholds.items():
        for metric, threshold in own.items():
            side = sides.setdefault(metric, threshold.side)
            if side != threshold.side:
                fields.fail(f"{metric} is {threshold.side} here and {side} above; which is good?", variant)


class RecordedThresholdField(MapField):
    """Thresholds of an own metric, by figure. A form that a later release added is left out."""

    def read(self, fields: Fields, name: str) -> dict[str, Threshold]:
        found = {figure: parse_threshold(text) for figure, text in super().read(fields, name).items()}
        return {figure: threshold for figure, threshold in found.items() if threshold is not None}

    def write(self, value: Mapping[str, Threshold]) -> dict[str, str]:
        return {figure: str(threshold) for figure, threshold in value.items()}


def _path(description: str) -> TextField:
    return TextField(description, limit=_MAX_PATH, default=None, omit=True)


_MAX_PATH = 4096
_INPUTS = InputsField(
    "Path of what the variants are proven on instead of built-in inputs: one text per line, .jsonl, or a folder of"
    " pictures or recordings; of a generic model's inputs .npz, .npy, .jsonl, .csv or .parquet.",
    limit=_MAX_PATH,
    default=None,
    omit=True,
)
_CALIBRATION = _path(
    "Path of what int8-static takes the ranges of values from: texts, one per line, or numpy's .npz with an array for"
    " every input of the graph."
)
_MAX_LENGTH = IntegerField(
    "Tokens a text is cut to; the model's own limit where absent.", low=8, high=1 << 20, default=None, omit=True
)
_TRUNCATE_DIM = IntegerField(
    "Answer the first so many numbers of a vector too, as a further output of an embedder's graphs; none where absent.",
    low=1,
    high=1 << 20,
    default=None,
    omit=True,
)
_TOKENIZER = _path("Where the tokenizer comes from, spelled as a source; from beside the weights where absent.")
_FILES = ListField(
    "Files of the source that travel with ready graphs of any kind, such as labels.txt; * and ? stand for any letters.",
    TextField("A path in the source.", limit=_MAX_PATH),
    limit=1000,
    default=(),
    omit=True,
)
_STATE_DICT = _path(
    "Path of a torch module's weights: .safetensors; .pt and .ckpt are pickles, which allow_pickle permits."
)
_SHAPES_TEXT = "Names of the free dimensions of a torch module's inputs, by input and number; the others are fixed."
_ALLOW_PICKLE = BooleanField("Load pickle weights where there are no safetensors.", default=False, omit=True)
_TRUST_CODE = BooleanField("Run Python code that comes with the model.", default=False, omit=True)
_TRUST_OWN_CODE = BooleanField("Run the Python file that the source names.", default=False, omit=True)
_METRIC_TEXT = "An own metric: module:function or file.py:function."
_EXPORTER_TEXT = "The library that makes the graphs: optimum, transformers (5), or auto, which suits the model."
_EXTERNAL_DATA_TEXT = (
    "Whether the weights of ONNX graphs lie in files beside them: always, never, or auto, from 8 MB of weights on."
)
_OPSET_TEXT = "Version of ONNX's operators to export with; the one that suits the model where absent."

WRITTEN_RECIPE = Record(
    Recipe,
    strict=True,
    variants=VariantsField(
        "Which variants to build, in any order; those that suit the source where absent.", default=(), omit=True
    ),
    task=ChoiceField(
        "A Hub task name; inferred from the model where absent.",
        TASKS,
        "a task this release builds",
        default=None,
        omit=True,
    ),
    inputs=_INPUTS,
    metric=MetricField(_METRIC_TEXT, limit=_MAX_PATH, default=None, omit=True),
    calibration=_CALIBRATION,
    max_length=_MAX_LENGTH,
    truncate_dim=_TRUNCATE_DIM,
    opset=IntegerField(_OPSET_TEXT, low=OPSETS[0], high=OPSETS[-1], default=None, omit=True),
    exporter=ChoiceField(_EXPORTER_TEXT, EXPORTER_NAMES, "an exporter", default=AUTO_EXPORTER, omit=True),
    external_data=ChoiceField(
        _EXTERNAL_DATA_TEXT, EXTERNAL_DATA, "one of its values", default=EXTERNAL_DATA[0], omit=True
    ),
    tokenizer=_TOKENIZER,
    files=_FILES,
    state_dict=_STATE_DICT,
    dynamic_shapes=DynamicShapesField(_SHAPES_TEXT),
    allow_pickle=_ALLOW_PICKLE,
    trust_remote_code=_TRUST_CODE,
    trust_code=_TRUST_OWN_CODE,
    thresholds=ThresholdsField(
        'Per variant, metric to threshold; those of an own metric are a text, such as ">= 99%".', default={}
    ),
    options=OptionsField("Per variant, what else it must meet."),
)
"""A recipe as people write it: what this release does not know is an error."""

RECORDED_RECIPE = Record(
    Recipe,
    "The recipe of a build by any release: unknown keys, variants and metrics are accepted.",
    # A record without any is of a release that knew but one default.
    variants=ListField("Variants.", TextField("A variant."), limit=64, default=DEFAULT_VARIANTS),
    task=TextField("A task name.", limit=64, default=None, omit=True),
    inputs=_INPUTS,
    metric=_path(_METRIC_TEXT),
    calibration=_CALIBRATION,
    max_length=_MAX_LENGTH,
    truncate_dim=_TRUNCATE_DIM,
    opset=IntegerField(_OPSET_TEXT, low=1, high=1 << 31, default=None, omit=True),
    exporter=TextField(_EXPORTER_TEXT, limit=64, default=AUTO_EXPORTER, omit=True),
    external_data=TextField(_EXTERNAL_DATA_TEXT, limit=64, default=EXTERNAL_DATA[0], omit=True),
    tokenizer=_TOKENIZER,
    files=_FILES,
    state_dict=_STATE_DICT,
    dynamic_shapes=MapField(_SHAPES_TEXT, MapField("By number.", TextField("A name.")), default={}, omit=True),
    allow_pickle=_ALLOW_PICKLE,
    trust_remote_code=_TRUST_CODE,
    trust_code=_TRUST_OWN_CODE,
    # Apart, for the first release takes all of ``thresholds`` to be numbers.
    thresholds=MapField(
        "Per variant, metric to threshold.",
        MapField("Metric to threshold.", NumberField()),
        default={},
        omit=lambda recipe: not recipe.thresholds and not recipe.own_thresholds,
    ),
    own_thresholds=MapField(
        "Per variant, thresholds of the own metric's figures, such as >= 99%.",
        RecordedThresholdField("Figure to threshold.", TextField("A threshold.", limit=64)),
        default={},
        omit=True,
    ),
    options=MapField("Per variant, what else it had to meet.", ObjectField(RECORDED_OPTIONS), default={}, omit=True),
)
"""A recipe as manifests hold it."""


def parse_recipe(value: object) -> Recipe:
    """Read a recipe that a person wrote, from plain values (of TOML or JSON).

    Raises:
        RecipeError: naming the key that is unknown or wrong.
    """
    try:
        return WRITTEN_RECIPE.read(Fields(value, "", "recipe"))
    except FormatError as error:
        raise RecipeError(f"recipe: {error.message}" if error.field else error.message, error.hint) from None


def build_key(source: str, recipe: Recipe, inputs: Mapping[str, str], epoch: int) -> str:
    """The digest that decides whether something was already built: 64 hexadecimal digits.

    Args:
        source: identity of the source, such as ``hf:org/name@<commit>`` or ``sha256:<digest of a folder>``.
        recipe: the recipe.
        inputs: SHA-256 of what the recipe names on the disk, by the recipe's key.
        epoch: the exporter epoch: raised when our output changes on purpose.
    """
    # A recipe that names none has the key of one that names the default, as it always had.
    counted = {"variants": list(DEFAULT_VARIANTS)} | recipe.to_json()
    # A file counts by its content, not by its path.
    counted.update({name: f"sha256:{digest}" for name, digest in inputs.items()})
    if "inputs" in counted:
        # The key of what was built while they were called texts must stay the same.
        counted["texts"] = counted.pop("inputs")
    plain = {"source": source, "recipe": counted, "epoch": epoch}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hex_digest(text.encode())
