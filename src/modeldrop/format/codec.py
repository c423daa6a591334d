"""Declarations of documents: what each kind holds, for reading, for writing, and for the JSON Schemas.

A record is declared once, beneath its class: every field's name, what it may hold, and what it means. ``Record.read``
makes an instance from JSON that is not trusted, and ``Record.write`` gives its plain values back. The schemas in
docs/schemas are made of the same declarations, by ``docs/json_schemas.py``. Only what no declaration can say, such as
how two fields go together, is code: a record's ``check``.

The classes of records are named tuples (``util/named_tuples.py``), which are defined in a fiftieth of the time that
dataclasses take: a fetch waits for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modeldrop.format.json_fields import MAX_TEXT, REQUIRED, check_schema, dump, load_json
from modeldrop.format.names import TIME, VERSION

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from modeldrop.format.json_fields import Fields

READABLE_BY = "modeldrop>=0.1"
"""The releases that read the documents of this one, as the documents say."""

T = TypeVar("T")


class Field:
    """A field of a record.

    Attributes:
        description: what it means, for people who read documents; the schemas show it.
        default: what it reads as where it is absent or null; REQUIRED where it may not be.
        omit: whether what is written leaves it out where it has its default, or a function that decides it for an
            instance. Fields that were added later are left out, so that documents without them keep their bytes.
        attribute: the attribute of the class, where it is not called as the field.
    """

    def __init__(
        self,
        description: str = "",
        *,
        default: Any = REQUIRED,
        omit: bool | Callable[[Any], bool] = False,
        attribute: str = "",
    ) -> None:
        self.description = description
        self.default = default
        self.omit = omit
        self.attribute = attribute

    def read(self, fields: Fields, name: str) -> Any:
        """The value of the field ``name``.

        Raises:
            FormatError: naming the field.
        """
        raise NotImplementedError

    def read_list(self, fields: Fields, name: str, *, limit: int, default: Any) -> Any:
        """The value of the field ``name``, if that is a list of at most ``limit`` such values.

        Raises:
            FormatError: naming the field.
        """
        raise NotImplementedError

    def write(self, value: Any) -> Any:
        """The value as JSON has it."""
        return value

    def read_into(self, arguments: dict[str, Any], fields: Fields, name: str) -> None:
        """Put the value of the field ``name`` among the arguments for the class."""
        arguments[self.attribute or name] = self.read(fields, name)

    def write_into(self, plain: dict[str, Any], owner: Any, name: str) -> None:
        """Put the value, taken from the instance ``owner``, among what is written."""
        value = getattr(owner, self.attribute or name)
        if not (self.omit(owner) if callable(self.omit) else self.omit and value == self.default):
            plain[name] = self.write(value)


class TextField(Field):
    """A string of at most ``limit`` characters that matches ``pattern`` as a whole."""

    def __init__(
        self, description: str = "", *, pattern: re.Pattern[str] | None = None, limit: int = MAX_TEXT, **common: Any
    ) -> None:
        super().__init__(description, **common)
        self.pattern = pattern
        self.limit = limit

    def read(self, fields: Fields, name: str) -> Any:
        return fields.text(name, default=self.default, pattern=self.pattern, limit=self.limit)

    def read_list(self, fields: Fields, name: str, *, limit: int, default: Any) -> Any:
        return fields.texts(name, limit=limit, default=default, pattern=self.pattern)


class ChoiceField(TextField):
    """One of some strings, each of which is ``noun``, such as "a known type"."""

    def __init__(self, description: str, choices: Iterable[str], noun: str, **common: Any) -> None:
        super().__init__(description, limit=64, **common)
        self.choices = tuple(choices)
        self.noun = noun

    def read(self, fields: Fields, name: str) -> Any:
        value = super().read(fields, name)
        if value not in self.choices and value is not self.default:
            fields.fail(f"{value!r} is not {self.noun}; the known ones are: {', '.join(self.choices)}", name)
        return value


class TimeField(TextField):
    """A moment."""

    def __init__(self, description: str) -> None:
        super().__init__(f"{description} ISO 8601 in UTC, to the second.", pattern=TIME)


class VersionField(TextField):
    """The number of a version, written ``v3``."""

    def __init__(self, description: str) -> None:
        super().__init__(description, pattern=VERSION)

    def read(self, fields: Fields, name: str) -> int:
        return int(super().read(fields, name)[1:])

    def write(self, value: int) -> str:
        return f"v{value}"


class IntegerField(Field):
    """An integer between ``low`` and ``high``, both included."""

    def __init__(self, description: str = "", *, low: int, high: int, **common: Any) -> None:
        super().__init__(description, **common)
        self.low = low
        self.high = high

    def read(self, fields: Fields, name: str) -> Any:
        return fields.integer(name, low=self.low, high=self.high, default=self.default)

    def read_list(self, fields: Fields, name: str, *, limit: int, default: Any) -> Any:
        return fields.integers(name, low=self.low, high=self.high, limit=limit, default=default)


class NumberField(Field):
    """A finite number."""

    def read(self, fields: Fields, name: str) -> Any:
        return fields.number(name, default=self.default)

    def read_list(self, fields: Fields, name: str, *, limit: int, default: Any) -> Any:
        return fields.numbers(name, limit=limit, default=default)


class BooleanField(Field):
    """True or false."""

    def read(self, fields: Fields, name: str) -> Any:
        return fields.boolean(name, default=self.default)


class ListField(Field):
    """A list of ``minimum`` to ``limit`` values, each as ``item`` says; in the class, a tuple."""

    def __init__(
        self, description: str, item: Field, *, limit: int, minimum: int = 0, unique: bool = False, **common: Any
    ) -> None:
        super().__init__(description, **common)
        self.item = item
        self.limit = limit
        self.minimum = minimum
        self.unique = unique

    def read(self, fields: Fields, name: str) -> tuple[Any, ...]:
        value: tuple[Any, ...] = self.item.read_list(fields, name, limit=self.limit, default=self.default)
        if len(value) < self.minimum:
            fields.fail("must not be empty", name)
        if self.unique and len(set(value)) < len(value):
            fields.fail("names something twice", name)
        return value

    def write(self, value: Sequence[Any]) -> list[Any]:
        return [self.item.write(one) for one in value]


class MapField(Field):
    """An object whose keys are data, and whose values are each as ``item`` says."""

    def __init__(self, description: str, item: Field, **common: Any) -> None:
        super().__init__(description, **common)
        self.item = item

    def read(self, fields: Fields, name: str) -> dict[str, Any]:
        inner = fields.child(name, optional=self.default is not REQUIRED)
        return {key: self.item.read(inner, key) for key in inner.names()}

    def write(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self.item.write(one) for key, one in value.items()}


class ObjectField(Field):
    """An object that is a record of its own."""

    def __init__(self, record: Record[Any], description: str = "", **common: Any) -> None:
        super().__init__(description, **common)
        self.record = record

    def read(self, fields: Fields, name: str) -> Any:
        if self.default is not REQUIRED and not fields.has(name):
            return self.default
        return self.record.read(fields.child(name))

    def read_list(self, fields: Fields, name: str, *, limit: int, default: Any) -> Any:
        children = fields.children(name, limit=limit, optional=default is not REQUIRED)
        return tuple([self.record.read(child) for child in children])

    def write(self, value: Any) -> dict[str, Any] | None:
        return None if value is None else self.record.write(value)


class GroupField(Field):
    """An object that groups some fields of the record it is in: the class has them among its own attributes."""

    def __init__(self, description: str, /, **fields: Field) -> None:
        super().__init__(description)
        self.fields = fields

    def read_into(self, arguments: dict[str, Any], fields: Fields, name: str) -> None:
        inner = fields.child(name)
        for key, field in self.fields.items():
            field.read_into(arguments, inner, key)

    def write_into(self, plain: dict[str, Any], owner: Any, name: str) -> None:
        inner: dict[str, Any] = {}
        plain[name] = inner
        for key, field in self.fields.items():
            field.write_into(inner, owner, key)


class InlineField(Field):
    """The opposite: fields of the object are a record of their own, which the class has as one attribute."""

    def __init__(self, record: Record[Any]) -> None:
        super().__init__()
        self.record = record

    def read_into(self, arguments: dict[str, Any], fields: Fields, name: str) -> None:
        arguments[name] = self.record.read(fields)

    def write_into(self, plain: dict[str, Any], owner: Any, name: str) -> None:
        plain.update(self.record.write(getattr(owner, name)))


class Record(Generic[T]):
    """A kind of object.

    Attributes:
        make: the class of its instances.
        description: what it is, for the schemas; the first paragraph of the class's docstring unless given.
        fields: its fields by their names.
        check: refuses, by ``Fields.fail``, what each field allows but not all of them together.
        strict: whether unknown fields are refused. Only what people write is strict: documents may be of a later
            release, which has fields that this one may ignore.
    """

    def __init__(
        self,
        make: Callable[..., T],
        description: str = "",
        /,
        *,
        check: Callable[[Fields, T], None] | None = None,
        strict: bool = False,
        **fields: Field,
    ) -> None:
        self.make = make
        self._description = description
        self.check = check
        self.strict = strict
        self.fields = fields

    @property
    def description(self) -> str:
        """See the class."""
        return self._description or " ".join((self.make.__doc__ or "").split("\n\n")[0].split()).replace("``", "")

    def read(self, fields: Fields) -> T:
        """The instance that an object holds.

        Raises:
            FormatError: naming the field that is wrong.
        """
        arguments: dict[str, Any] = {}
        for name, field in self.fields.items():
            field.read_into(arguments, fields, name)
        if self.strict:
            fields.refuse_unknown()
        value = self.make(**arguments)
        if self.check is not None:
            self.check(fields, value)
        return value

    def write(self, value: T) -> dict[str, Any]:
        """The object that holds an instance, as plain values."""
        plain: dict[str, Any] = {}
        for name, field in self.fields.items():
            field.write_into(plain, value, name)
        return plain


class DocumentFormat(Generic[T]):
    """A kind of document: one record, with its schema's name.

    Attributes:
        schema: ``modeldrop/<kind>/<number>``.
        title: what the document is, in messages.
        record: what it holds.
        limit: how many bytes are read.
        verified: whether ``serialize`` reads what it wrote: a document that cannot be read is never stored.
    """

    def __init__(self, schema: str, title: str, record: Record[T], *, limit: int, verified: bool = True) -> None:
        self.schema = schema
        self.title = title
        self.record = record
        self.limit = limit
        self.verified = verified

    def parse(self, data: bytes) -> T:
        """Read a document, trusting nothing in it.

        Raises:
            FormatError: naming the field that is wrong, or the release that reads an unknown schema.
        """
        fields = load_json(data, self.title, limit=self.limit)
        check_schema(fields, self.schema)
        return self.record.read(fields)

    def serialize(self, value: T) -> bytes:
        """The bytes of a document: the same values always give the same bytes.

        Raises:
            FormatError: ``parse`` would not read it.
        """
        data = dump({"schema": self.schema, "readable_by": READABLE_BY, **self.record.write(value)})
        if self.verified:
            self.parse(data)
        return data
