"""The standard library's dataclasses, without the time that it takes to define them.

``dataclasses`` writes and compiles the methods of every class: 0.4 ms each, and 5 ms to be imported itself. A fetch
needs fifty classes, and asks a registry whether anything is new in less time than that takes. Here all classes share
the same few methods, which look at the fields when they are called.

Type checkers see the original. The original's functions (``fields``, ``replace``, ``asdict``, ``is_dataclass``) and
``inspect.signature`` work on these classes too: what they want to know is made when they ask. Of the options there is
what modeldrop uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING: Any = object()


class _Field:
    """What is known of a field."""

    __slots__ = ("default", "default_factory", "kind", "repr")

    def __init__(self, default: Any, default_factory: Any = _MISSING, *, repr: bool = True) -> None:  # noqa: A002
        self.default = default
        self.default_factory = default_factory
        self.repr = repr
        self.kind: Any = None

    def absent(self, name: str, owner: type) -> Any:
        """The value where none was given."""
        if self.default_factory is not _MISSING:
            return self.default_factory()
        if self.default is _MISSING:
            raise TypeError(f"{owner.__qualname__}() lacks the argument {name!r}")
        return self.default


def _field(*, default: Any = _MISSING, default_factory: Any = _MISSING, repr: bool = True) -> _Field:  # noqa: A002
    """As ``dataclasses.field``."""
    return _Field(default, default_factory, repr=repr)


def _dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Callable[[type], type]:
    """As ``dataclasses.dataclass``."""
    return lambda cls: _define(cls, frozen=frozen, slots=slots, eq=eq)


def _replace(value: Any, /, **changes: Any) -> Any:
    """As ``dataclasses.replace``; also for its dataclasses."""
    if not hasattr(value, "_lean_fields"):
        import dataclasses

        return dataclasses.replace(value, **changes)
    return type(value)(**{name: getattr(value, name) for name in _fields(value)} | changes)


def _asdict(value: Any) -> dict[str, Any]:
    """As ``dataclasses.asdict``; also for its dataclasses."""
    if not hasattr(value, "_lean_fields"):
        import dataclasses

        return dataclasses.asdict(value)
    return {name: _plain(getattr(value, name)) for name in _fields(value)}


def _plain(value: Any) -> Any:
    if hasattr(value, "_lean_fields"):
        return _asdict(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(one) for one in value)
    if isinstance(value, dict):
        return type(value)((_plain(key), _plain(one)) for key, one in value.items())
    return value


def _fields(value: Any) -> Mapping[str, _Field]:
    """The fields of a class, or of its instance, by name."""
    return value._lean_fields  # type: ignore[no-any-return]  # noqa: SLF001


def _define(cls: type, *, frozen: bool, slots: bool, eq: bool) -> type:
    """The class again, with what a dataclass has."""
    own = {}
    annotations = cls.__dict__.get("__annotations__", {})  # noqa: RUF063  inspect takes as long to import as dataclasses
    for name, kind in annotations.items():
        if not str(kind).startswith("ClassVar"):
            default = cls.__dict__.get(name, _MISSING)
            own[name] = default if isinstance(default, _Field) else _Field(default)
            own[name].kind = kind
    namespace: dict[str, Any] = {
        "__qualname__": cls.__qualname__,
        "__init__": _init,
        "__repr__": _repr,
        "__replace__": _replace,
        "__match_args__": tuple(own),
        "__dataclass_fields__": _Asked(lambda twin: twin.__dataclass_fields__),
        "__dataclass_params__": _Asked(lambda twin: twin.__dataclass_params__),
        "__signature__": _Asked(_signature),
        "_lean_fields": own,
        "_lean_options": {"frozen": frozen, "eq": eq},
    }
    if eq:
        namespace |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
    if frozen:
        namespace |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
    if slots:
        namespace |= {"__slots__": tuple(own), "__getstate__": _get_state, "__setstate__": _set_state}
    namespace |= {name: one for name, one in cls.__dict__.items() if name not in {"__dict__", "__weakref__", *own}}
    if not slots:
        namespace |= {name: one.default for name, one in own.items() if one.default is not _MISSING}
    return type(cls)(cls.__name__, cls.__bases__, namespace)


def _init(self: Any, *values: Any, **named: Any) -> None:
    cls, fields = type(self), _fields(self)
    if len(values) > len(fields):
        raise TypeError(f"{cls.__qualname__}() takes {len(fields)} arguments, not {len(values)}")
    given = dict(zip(fields, values, strict=False))
    for name, value in named.items():
        if name not in fields or name in given:
            raise TypeError(f"{cls.__qualname__}() has {'two of the' if name in fields else 'no'} argument {name!r}")
        given[name] = value
    for name, one in fields.items():
        object.__setattr__(self, name, given[name] if name in given else one.absent(name, cls))
    after = getattr(self, "__post_init__", None)
    if after is not None:
        after()


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in _fields(self)])


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, one in _fields(self).items() if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> Any:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse_to_set(_self: Any, name: str, _value: Any) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> tuple[Any, ...]:
    return _values(self)


def _set_state(self: Any, state: tuple[Any, ...]) -> None:
    for name, value in zip(_fields(self), state, strict=True):
        object.__setattr__(self, name, value)


class _Asked:
    """What only the standard library asks for: taken from a dataclass of its own with the same fields."""

    def __init__(self, part: Callable[[Any], Any]) -> None:
        self._part = part

    def __get__(self, value: Any, owner: type) -> Any:
        twin = owner.__dict__.get("_lean_twin")
        if twin is None:
            twin = _twin(owner)
            owner._lean_twin = twin  # type: ignore[attr-defined]  # noqa: SLF001
        return self._part(twin)


def _twin(cls: Any) -> type:
    import dataclasses

    def original(one: _Field) -> Any:
        known = {"default": one.default, "default_factory": one.default_factory, "repr": one.repr}
        return dataclasses.field(**{name: value for name, value in known.items() if value is not _MISSING})

    fields = [(name, one.kind, original(one)) for name, one in _fields(cls).items()]
    return dataclasses.make_dataclass(cls.__name__, fields, **cls._lean_options)


def _signature(twin: type) -> Any:
    import inspect

    return inspect.signature(twin)


if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, replace
else:
    asdict, dataclass, field, replace = _asdict, _dataclass, _field, _replace

__all__ = ["asdict", "dataclass", "field", "replace"]
