"""The JSON Schemas of all documents, made of the declarations by which the package reads and writes them.

``docs/generate.py`` keeps docs/schemas. A schema says what a declaration says; what a record's ``check`` says, such as
how two fields go together, only the parser knows.
"""

# ruff: noqa: ARG001  every function for a kind of field takes the same two arguments

from __future__ import annotations

import json
import re
from functools import singledispatch
from typing import Any, TypeAlias

from modeldrop.format import codec, names, recipe
from modeldrop.format.channel import CHANNEL, ENVELOPE
from modeldrop.format.deltas import DELTA_INDEX
from modeldrop.format.golden import STEP_OUTPUT, TENSOR_VALUE, StepInputField
from modeldrop.format.json_fields import REQUIRED
from modeldrop.format.manifest import MANIFEST, FilePathField, PathField
from modeldrop.format.names import MAX_PATH, RESERVED
from modeldrop.format.policy import POLICY
from modeldrop.format.records import BUILD_RECORD, CLAIM, REJECTION, RETIREMENT, SEAL, TESTED
from modeldrop.format.signed import SIGNED_MOVE, STATEMENT
from modeldrop.format.variants import FP32, OPTIMIZED, VARIANTS

Schema: TypeAlias = dict[str, Any]

_SIGNED: dict[str, codec.Record[Any]] = {
    "envelope": ENVELOPE,
    "signed-statement": STATEMENT,
    "signed-move": SIGNED_MOVE,
}
_KINDS = {
    document.schema.split("/")[1]: document
    for document in (MANIFEST, CHANNEL, CLAIM, BUILD_RECORD, REJECTION, TESTED, RETIREMENT, SEAL, POLICY, DELTA_INDEX)
}


def schemas() -> dict[str, str]:
    """The text of every schema, by its file's name."""
    found = {kind: _document(document) for kind, document in _KINDS.items()} | {"recipe": _recipe()}
    found |= {kind: _signed(kind, record) for kind, record in _SIGNED.items()}
    for kind, schema in found.items():
        head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:modeldrop:{kind}:1"}
        found[kind] = head | schema
    return {f"{kind}.v1.json": json.dumps(schema, indent=2) + "\n" for kind, schema in found.items()}


def _document(document: codec.DocumentFormat[Any]) -> Schema:
    definitions: Schema = {}
    schema = _object(document.record, definitions)
    schema["required"].insert(0, "schema")
    schema["properties"] = {
        "schema": {"description": "Kind and version of the document.", "const": document.schema},
        "readable_by": _field(
            codec.TextField(
                "The releases that read it; shown by a reader that does not know the schema.", limit=64, default=None
            ),
            definitions,
        ),
        **schema["properties"],
    }
    return {"title": f"modeldrop {document.title}", **schema} | ({"$defs": definitions} if definitions else {})


def _signed(kind: str, record: codec.Record[Any]) -> Schema:
    """An envelope, or what is in one: the names of their fields are those of DSSE and in-toto."""
    definitions: Schema = {}
    schema = _object(record, definitions)
    return {"title": f"modeldrop {kind}", **schema} | ({"$defs": definitions} if definitions else {})


def _recipe() -> Schema:
    definitions: Schema = {}
    schema = _object(recipe.WRITTEN_RECIPE, definitions)
    ours = {"additionalProperties": {"propertyNames": {"enum": list(recipe.METRICS)}}}
    schema["allOf"] = [
        {
            "description": "Without an own metric there are thresholds of the built-in ones only.",
            "if": {"not": {"required": ["metric"], "properties": {"metric": {"type": "string"}}}},
            "then": {"properties": {"thresholds": ours}},
        }
    ]
    return {"title": "modeldrop recipe", **schema, "$defs": definitions}


def _object(record: codec.Record[Any], definitions: Schema) -> Schema:
    """A record; those that it refers to are put among ``definitions``."""
    schema = {"description": record.description, **_members(record.fields, definitions)}
    return schema | ({"additionalProperties": False} if record.strict else {})


def _members(fields: dict[str, codec.Field], definitions: Schema) -> Schema:
    required: list[str] = []
    properties: Schema = {}
    schema: Schema = {"type": "object", "required": required, "properties": properties}
    for name, field in fields.items():
        if isinstance(field, codec.InlineField):
            inner = _members(field.record.fields, definitions)
            required += inner["required"]
            properties |= inner["properties"]
            continue
        properties[name] = _field(field, definitions)
        if field.default is REQUIRED:
            required.append(name)
        if isinstance(field, recipe.InputsField):
            former = field.former
            properties[former] = properties[name] | {"description": f"Former name of {name}."}
            given = {one: {"type": "string"} for one in (name, former)}
            schema["not"] = {"required": [name, former], "properties": given}
    return schema


def _field(field: codec.Field, definitions: Schema) -> Schema:
    """A field, which may be null where it may be absent."""
    schema = _value(field, definitions)
    if field.default is not REQUIRED:
        if "$ref" in schema:
            schema = {"anyOf": [schema, {"type": "null"}]}
        elif "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        else:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            schema["type"] = [*types, "null"]
    return ({"description": field.description} if field.description else {}) | schema


def _reference(record: codec.Record[Any], definitions: Schema) -> Schema:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", getattr(record.make, "__name__", "")).lower()
    if name not in definitions:
        definitions[name] = {}  # before its fields: it keeps its place
        definitions[name] = _object(record, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _pattern(pattern: re.Pattern[str]) -> str:
    plain = re.sub(r"\(\?P<\w+>", "(", pattern.pattern).replace(r"\0", r"\u0000")
    return f"^{plain}$"


@singledispatch
def _value(field: codec.Field, definitions: Schema) -> Schema:
    """What a field holds where it is not null."""
    raise TypeError(f"no schema of {type(field).__name__}")


@_value.register
def _(field: codec.TextField, definitions: Schema) -> Schema:
    if field.pattern is not None:
        return {"type": "string", "pattern": _pattern(field.pattern)}
    return {"type": "string", "maxLength": field.limit, "pattern": r"^[^\u0000]*$"}


@_value.register
def _(field: codec.ChoiceField, definitions: Schema) -> Schema:
    return {"enum": list(field.choices)}


@_value.register
def _(field: codec.IntegerField, definitions: Schema) -> Schema:
    return {"type": "integer", "minimum": field.low, "maximum": field.high}


@_value.register
def _(field: codec.NumberField, definitions: Schema) -> Schema:
    return {"type": "number"}


@_value.register
def _(field: codec.BooleanField, definitions: Schema) -> Schema:
    return {"type": "boolean"}


@_value.register
def _(field: codec.ListField, definitions: Schema) -> Schema:
    bounds = {"minItems": field.minimum} if field.minimum else {}
    unique = {"uniqueItems": True} if field.unique else {}
    return {"type": "array", **bounds, "maxItems": field.limit, **unique, "items": _field(field.item, definitions)}


@_value.register
def _(field: codec.MapField, definitions: Schema) -> Schema:
    return {"type": "object", "additionalProperties": _field(field.item, definitions)}


@_value.register
def _(field: codec.ObjectField, definitions: Schema) -> Schema:
    return _reference(field.record, definitions)


@_value.register
def _(field: codec.GroupField, definitions: Schema) -> Schema:
    return _members(field.fields, definitions)


@_value.register
def _(field: StepInputField, definitions: Schema) -> Schema:
    tensor = {"properties": {"output": {"description": "With it, it would be a step's output.", "type": "null"}}}
    return {"anyOf": [_reference(STEP_OUTPUT, definitions), {"allOf": [_reference(TENSOR_VALUE, definitions), tensor]}]}


@_value.register(PathField)
@_value.register(FilePathField)
def _(field: codec.TextField, definitions: Schema) -> Schema:
    definitions["path"] = {
        "description": "A path inside a version: relative, with '/', in Unicode NFC, at most 512 bytes and 255 per "
        "part; no '.', '..', empty part, back-slash, colon or control character; no part begins with a blank or ends "
        "with a blank or a dot; the first part is no name the registry keeps for itself. Paths that differ only in "
        "case or Unicode form may not meet in one manifest.",
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_PATH,
        "pattern": f"^{_PATH_PART}(?:/{_PATH_PART})*$",
        "not": {"pattern": f"^(?:{'|'.join(_any_case(name) + '(?:/|$)' for name in sorted(RESERVED))}|{_OWN_FOLDER})"},
    }
    return {"$ref": "#/$defs/path"}


def _any_case(text: str) -> str:
    return "".join(f"[{char}{char.upper()}]" if char.isalpha() else f"[{char}]" for char in text)


# Separators, and what people cannot see: all of Unicode's categories Cc, Cf, Zl, Zp and Cs that are likely.
_NOT_IN_PATHS = (
    r"/\\:\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff"
)
_PATH_PART = f"(?! )[^{_NOT_IN_PATHS}]*[^{_NOT_IN_PATHS}. ]"
_OWN_FOLDER = _any_case(".modeldrop")


@_value.register
def _(field: recipe.FactorField, definitions: Schema) -> Schema:
    return {"type": ["boolean", "number"], "minimum": 0, "maximum": field.high}


@_value.register
def _(field: recipe.MetricField, definitions: Schema) -> Schema:
    return {"type": "string", "maxLength": field.limit, "pattern": _pattern(field.function)}


@_value.register
def _(field: recipe.VariantsField, definitions: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": list(VARIANTS)}}


@_value.register
def _(field: recipe.ThresholdsField, definitions: Schema) -> Schema:
    definitions["threshold"] = {
        "description": "What a figure of an own metric must reach or stay below: a number, or percent of the "
        "original's.",
        "type": "string",
        "pattern": _pattern(recipe.THRESHOLD),
    }
    metrics = {
        name: {"description": f"The value must be {side} this.", "type": "number"}
        for name, side in recipe.METRICS.items()
    }
    variants = {
        name: {
            "description": f"Thresholds of {name}, where they differ from the defaults.",
            "type": "object",
            "propertyNames": {"pattern": _pattern(names.OWN_NAME)},
            "properties": metrics,
            "additionalProperties": {"$ref": "#/$defs/threshold"},
        }
        for name in VARIANTS
    }
    return {"type": "object", "additionalProperties": False, "properties": variants}


@_value.register
def _(field: recipe.OptionsField, definitions: Schema) -> Schema:
    reference = _reference(recipe.WRITTEN_OPTIONS, definitions)
    variants: Schema = {}
    for name, spec in VARIANTS.items():
        limits: Schema = {}
        if not spec.searched:
            limits["auto"] = {"description": "It is made in one way only.", "enum": [False, None]}
        if spec.quantizer == OPTIMIZED:
            limits["keep_layers"] = {"description": "Layers are fused, not quantized.", "maxItems": 0}
        variants[name] = reference | ({"properties": limits} if limits else {})
    variants[FP32.name] = {
        "description": "Nothing: it is what the others are made of and measured by.",
        "type": "object",
        "maxProperties": 0,
    }
    return {"type": "object", "additionalProperties": False, "properties": variants}
