"""Strict reading of JSON that is not trusted: bounds on bytes and nesting, and typed access to fields.

``load`` turns bytes into plain Python values; ``Fields`` reads them from an object by name and type. Every failure is
a ``FormatError`` that names the field.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from modeldrop.errors import FormatError
from modeldrop.util.text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_DEPTH = 32
MAX_TEXT = 65_536
MAX_VALUES = 400_000
MAX_NESTED = 50_000
_SHOWN_NAME = 80
# Possessive, and whole without a closing quote too: nothing is looked at twice, however many quotes never close.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPENING = frozenset(b"[{")
# What makes a parser slow or large, and how much of it a document may have: a manifest of 16 MiB of digests has less.
_COUNTED = (
    (b",", MAX_VALUES, "values"),
    (b"{", MAX_NESTED, "objects"),
    (b"[", MAX_NESTED, "lists"),
    (b'"', 1_000_000, "quotes"),
    (b"\\", 200_000, "back-slashes"),
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
REQUIRED: Any = object()
"""In place of a default: the field must be there."""


def load_json(data: bytes, what: str, *, limit: int) -> Fields:
    """Parse ``data`` as one JSON object of at most ``limit`` bytes.

    Refused besides what JSON refuses: nesting deeper than 32, more than 400,000 values or 50,000 objects or lists,
    repeated keys, NaN and infinities, text that is not UTF-8 or holds lone surrogates. All bounds are held before
    anything is parsed: whatever is refused takes a fraction of a second, and no memory to speak of.

    Raises:
        FormatError: for every one of these; ``what`` names the document.
    """
    if len(data) > limit:
        raise FormatError(f"{what} has {len(data)} bytes; at most {limit} are read")
    for mark, most, noun in _COUNTED:
        if data.count(mark) > most:
            raise FormatError(f"{what} has more than {most} {noun}")
    if _depth(data) > MAX_DEPTH:
        raise FormatError(f"{what} nests deeper than {MAX_DEPTH} levels")
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except FormatError as error:
        raise FormatError(f"{what}: {error.message}") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not JSON: {first_line(error)}") from None
    return Fields(value, "", what)


def dump(value: Mapping[str, Any]) -> bytes:
    """Serialize for people and for digests: sorted keys, two blanks of indent, UTF-8, a final newline.

    The same value always gives the same bytes.

    Raises:
        FormatError: the value holds lone surrogates, such as an argument that was not UTF-8.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise FormatError(f"{text[error.start - 20 : error.end]!r} is not Unicode text") from None


class Fields:
    """One JSON object, read field by field.

    Unknown fields are ignored unless ``refuse_unknown`` is called: old readers must survive new writers.
    """

    def __init__(self, value: object, path: str, what: str = "document") -> None:
        self.path = path
        self.what = what
        if not isinstance(value, dict):
            self.fail("must be an object", "")
        self._value: dict[str, Any] = value
        self._known: set[str] = set()

    def fail(self, message: str, name: str) -> NoReturn:
        """Raise the error for the field ``name``."""
        raise FormatError(f"{self.what}: {message}" if not (self.path or name) else message, field=self.at(name))

    def at(self, name: str) -> str:
        """The path of a field from the document's root, such as ``files[2].path``.

        It is shown to people, on terminals and in CI logs: names that are long or not printable are quoted.
        """
        shown = name if len(name) <= _SHOWN_NAME and name.isprintable() else repr(name[:_SHOWN_NAME])
        return f"{self.path}.{shown}".strip(".")

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        self._known.add(name)
        return self._value.get(name) is not None

    def text(
        self,
        name: str,
        *,
        default: Any = REQUIRED,
        pattern: re.Pattern[str] | None = None,
        limit: int = MAX_TEXT,
    ) -> Any:
        """A string of at most ``limit`` characters without NUL that matches ``pattern`` as a whole."""
        value = self._take(name, str, "a string", default)
        if value is default:
            return value
        if len(value) > limit:
            self.fail(f"has {len(value)} characters; at most {limit} are allowed", name)
        if "\0" in value:
            self.fail("contains a NUL character", name)
        if pattern is not None and not pattern.fullmatch(value):
            self.fail(f"{value[:80]!r} does not match {pattern.pattern}", name)
        return value

    def integer(self, name: str, *, low: int, high: int, default: Any = REQUIRED) -> Any:
        """An integer between ``low`` and ``high``, both included."""
        value = self._take(name, int, "an integer", default)
        if value is not default and not low <= value <= high:
            self.fail(f"{value} is not between {low} and {high}", name)
        return value

    def number(self, name: str, *, default: Any = REQUIRED) -> Any:
        """A finite number, as a float."""
        value = self._take(name, (int, float), "a number", default)
        if value is default:
            return value
        if not _is_finite(value):
            self.fail("is not a finite number", name)
        return float(value)

    def boolean(self, name: str, *, default: Any = REQUIRED) -> Any:
        """True or false."""
        value = self._value.get(name)
        self._known.add(name)
        if value is None and default is not REQUIRED:
            return default
        if not isinstance(value, bool):
            self.fail("must be true or false", name)
        return value

    def flag_or_number(self, name: str) -> float:
        """True or false, as 1.0 and 0.0; or a finite number."""
        if isinstance(self._value.get(name), bool):
            return float(self.boolean(name))
        return float(self.number(name))

    def texts(self, name: str, *, limit: int, default: Any = REQUIRED, pattern: re.Pattern[str] | None = None) -> Any:
        """A list of at most ``limit`` strings that each match ``pattern`` as a whole, as a tuple."""
        value = self._take(name, list, "a list", default)
        if value is default:
            return value
        self._bounded(name, value, limit)
        for index, item in enumerate(value):
            if not isinstance(item, str) or "\0" in item or len(item) > MAX_TEXT:
                self.fail("must be a string", f"{name}[{index}]")
            if pattern is not None and not pattern.fullmatch(item):
                self.fail(f"{item[:80]!r} does not match {pattern.pattern}", f"{name}[{index}]")
        return tuple(value)

    def text_or_texts(self, name: str, *, limit: int, default: Any = REQUIRED) -> Any:
        """A string, or a list of at most ``limit`` strings; as a tuple."""
        if isinstance(self._value.get(name), str):
            return (self.text(name),)
        return self.texts(name, limit=limit, default=default)

    def value(self, name: str) -> Any:
        """The plain value of a field that was read before."""
        return self._value[name]

    def integers(
        self, name: str, *, low: int, high: int, limit: int, default: tuple[int, ...] = REQUIRED
    ) -> tuple[int, ...]:
        """A list of at most ``limit`` integers between ``low`` and ``high``, as a tuple."""
        value = self._take(name, list, "a list", default)
        if value is default:
            return default  # type: ignore[no-any-return]
        self._bounded(name, value, limit)
        for index, item in enumerate(value):
            if not isinstance(item, int) or isinstance(item, bool) or not low <= item <= high:
                self.fail(f"must be an integer between {low} and {high}", f"{name}[{index}]")
        return tuple(value)

    def numbers(self, name: str, *, limit: int, default: tuple[float, ...] = REQUIRED) -> tuple[float, ...]:
        """A list of at most ``limit`` finite numbers, as floats in a tuple."""
        value = self._take(name, list, "a list", default)
        if value is default:
            return default  # type: ignore[no-any-return]
        self._bounded(name, value, limit)
        for index, item in enumerate(value):
            if not isinstance(item, int | float) or isinstance(item, bool) or not _is_finite(item):
                self.fail("must be a finite number", f"{name}[{index}]")
        return tuple(float(item) for item in value)

    def child(self, name: str, *, optional: bool = False) -> Fields:
        """A nested object; where ``optional``, an absent one reads as empty."""
        value = self._take(name, dict, "an object", {} if optional else REQUIRED)
        return Fields(value, self.at(name), self.what)

    def table(self, name: str) -> dict[str, Any]:
        """A nested object as it stands there, to be read later; empty where it is absent."""
        value: dict[str, Any] = self._take(name, dict, "an object", {})
        return value

    def children(self, name: str, *, limit: int, optional: bool = False) -> Iterator[Fields]:
        """A list of at most ``limit`` objects."""
        value = self._take(name, list, "a list", [] if optional else REQUIRED)
        self._bounded(name, value, limit)
        for index, item in enumerate(value):
            yield Fields(item, self.at(f"{name}[{index}]"), self.what)

    def names(self) -> tuple[str, ...]:
        """The names of all fields, known or not, in order."""
        return tuple(self._value)

    def refuse_unknown(self) -> None:
        """Fail on the first field that was not read."""
        for name in self._value:
            if name not in self._known:
                known = ", ".join(sorted(self._known))
                self.fail(f"unknown key; the known ones are: {known}", name)

    def _take(self, name: str, kind: Any, noun: str, default: object) -> Any:
        self._known.add(name)
        value = self._value.get(name)
        if value is None:
            if default is REQUIRED:
                self.fail("is missing", name)
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            self.fail(f"must be {noun}, not {type(value).__name__}", name)
        return value

    def _bounded(self, name: str, value: list[Any], limit: int) -> None:
        if len(value) > limit:
            self.fail(f"has {len(value)} items; at most {limit} are allowed", name)


def check_schema(fields: Fields, expected: str) -> None:
    """Refuse a document of another kind or of a schema this release does not know.

    Raises:
        FormatError: naming the release that reads it, as the document itself says.
    """
    found = fields.text("schema", limit=64)
    reader = fields.text("readable_by", default="", limit=64)
    if found == expected:
        return
    if not reader or not reader.isprintable():
        reader = "a newer modeldrop"
    raise FormatError(
        f"{found!r} is not {expected!r}, the schema this release reads",
        f"Install the release that reads it: {reader}.",
        field=fields.at("schema"),
    )


def _depth(data: bytes) -> int:
    # Counted before parsing: json's scanner recurses, and how deep it may go is the interpreter's business.
    depth = deepest = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        if bracket in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise FormatError(f"the key {name[:_SHOWN_NAME]!r} appears twice")
            seen.add(name)
    return result


def _is_finite(value: float) -> bool:
    # TOML, unlike JSON, has infinities; an integer may be too large for a float.
    return -sys.float_info.max <= value <= sys.float_info.max


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value
