"""``NamedTuple`` as ``typing`` has it, without compiling: a start that finds its model in place defines forty classes.

``typing.NamedTuple`` compiles a constructor for each class, and every annotation that is a string: 0.3 ms a class, a
tenth of such a start. Here all classes share one constructor. Type checkers see the original, whose rules hold: fields
are the annotations of the class, those with defaults come last, and an instance is a tuple that cannot be changed.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from inspect import Signature
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414  others import it from here
else:

    class _Definition(type):
        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Self:
            namespace.setdefault("__slots__", ())
            fields = tuple(namespace.get("__annotations__", ()))
            if fields:
                namespace["_fields"] = namespace["__match_args__"] = fields
                namespace["_field_defaults"] = {field: namespace[field] for field in fields if field in namespace}
                namespace.update((field, property(itemgetter(index))) for index, field in enumerate(fields))
            return super().__new__(cls, name, bases, namespace)

        @property
        def __signature__(cls) -> Signature:
            from inspect import Parameter, Signature

            kind, defaults = Parameter.POSITIONAL_OR_KEYWORD, cls._field_defaults
            return Signature(
                [Parameter(field, kind, default=defaults.get(field, Parameter.empty)) for field in cls._fields]
            )

    class NamedTuple(tuple, metaclass=_Definition):
        """See ``typing.NamedTuple``."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012  each class has its own

        def __new__(cls, *values: Any, **named: Any) -> Self:
            fields = cls._fields
            if not values and named.keys() == set(fields):  # as documents are read
                values = [named[field] for field in fields]
            elif named or len(values) != len(fields):
                given = {**cls._field_defaults, **dict(zip(fields, values, strict=False)), **named}
                twice = named.keys() & set(fields[: len(values)])
                if len(values) > len(fields) or twice or given.keys() != set(fields):
                    missing = [field for field in fields if field not in given]
                    raise TypeError(f"{cls.__name__} takes {', '.join(fields)}, once each; missing: {missing}")
                values = [given[field] for field in fields]
            return super().__new__(cls, values)

        @classmethod
        def _make(cls, values: Iterable[Any]) -> Self:
            made = super().__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}")
            return made

        def _replace(self, **changed: Any) -> Self:
            return type(self)(**{**self._asdict(), **changed})

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

        def __repr__(self) -> str:
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"
