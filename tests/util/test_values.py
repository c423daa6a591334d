"""Lean dataclasses are the standard library's, as far as modeldrop uses them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from modeldrop.util import values as lean

if TYPE_CHECKING:
    from collections.abc import Callable


@lean.dataclass(frozen=True, slots=True)
class Point:
    """A place."""

    LIMIT: ClassVar[int] = 7

    x: int
    y: int = 2
    names: Mapping[str, int] = lean.field(default_factory=dict)
    secret: str = lean.field(default="", repr=False)

    @property
    def both(self) -> int:
        """The sum."""
        return self.x + self.y


@lean.dataclass(frozen=True, slots=True)
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("negative")


@lean.dataclass(frozen=True)
class Open:
    x: int = 1


@lean.dataclass(slots=True)
class Mutable:
    count: int = 0


@lean.dataclass(slots=True, eq=False)
class Itself:
    count: int = 0


def standard(own: type, **options: bool) -> Any:
    """The standard library's dataclass of the same fields."""

    class Plain:
        __doc__ = own.__doc__
        __annotations__ = {one.name: one.type for one in dataclasses.fields(own)}

    for one in dataclasses.fields(own):
        factory = one.default_factory
        if factory is not dataclasses.MISSING:
            setattr(Plain, one.name, dataclasses.field(default_factory=factory, repr=one.repr))
        elif one.default is not dataclasses.MISSING:
            setattr(Plain, one.name, dataclasses.field(default=one.default, repr=one.repr))
    Plain.__name__ = Plain.__qualname__ = own.__name__
    return dataclasses.dataclass(**options)(Plain)


def test_values_are_made_compared_hashed_and_shown_as_the_original_does() -> None:
    original = standard(Point, frozen=True, slots=True)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1,), {}), ((1, 3), {}), ((), {"x": 1, "secret": "s"}), ((1, 2, {"a": 1}, "s"), {}),
    ]  # fmt: skip
    for arguments, named in calls:
        ours, theirs = Point(*arguments, **named), original(*arguments, **named)
        assert repr(ours) == repr(theirs)
        assert dataclasses.asdict(ours) == dataclasses.asdict(theirs) == lean.asdict(ours)
        assert dataclasses.astuple(ours) == dataclasses.astuple(theirs)
    assert Point(1) == Point(1, 2)
    assert Point(1) != Point(2)
    assert Point(1) != original(1)
    assert hash(Open(3)) == hash(standard(Open, frozen=True)(3))
    assert len({Open(1), Open(), Open(2)}) == 2


def test_every_value_has_a_default_of_its_own() -> None:
    one, other = Point(1), Point(1)
    assert one.names == {}
    assert one.names is not other.names
    assert Point.LIMIT == 7
    assert Point(1).both == 3


@pytest.mark.parametrize(
    ("arguments", "named", "said"),
    [
        ((), {}, "lacks the argument 'x'"),
        ((1, 2, {}, "", 5), {}, "takes 4 arguments, not 5"),
        ((1,), {"x": 1}, "two of the argument 'x'"),
        ((1,), {"z": 1}, "no argument 'z'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[Any, ...], named: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Point(*arguments, **named)


def test_frozen_ones_do_not_change() -> None:
    def delete(value: Any) -> None:
        del value.x

    changes: list[Callable[[Any], None]] = [lambda value: setattr(value, "x", 2), delete]
    for value in (Point(1), Open(1)):
        for change in changes:
            with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
                change(value)
    with pytest.raises((AttributeError, TypeError)):
        Point(1).other = 1  # type: ignore[attr-defined]


def test_mutable_ones_do() -> None:
    value = Mutable()
    value.count += 1
    assert value == Mutable(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)
    with pytest.raises(AttributeError):
        value.other = 1  # type: ignore[attr-defined]
    assert Itself() != Itself()
    assert len({Itself(), Itself()}) == 2


def test_what_is_checked_after_making() -> None:
    with pytest.raises(ValueError, match="negative"):
        Checked(-1)
    with pytest.raises(ValueError, match="negative"):
        lean.replace(Checked(1), size=-1)


def test_the_functions_take_the_originals_too() -> None:
    original = standard(Open, frozen=True)
    assert lean.replace(original(1), x=5) == original(5)
    assert lean.asdict(original(1)) == {"x": 1}


@pytest.mark.parametrize("replace", [lean.replace, dataclasses.replace])
def test_replacing(replace: Callable[..., Point]) -> None:
    assert replace(Point(1, secret="s"), y=5) == Point(1, 5, {}, "s")
    with pytest.raises(TypeError, match="'z'"):
        replace(Point(1), z=5)


def test_values_within_values() -> None:
    value = Point(1, names={"a": Open(4)}, secret=(Open(5), [Open(6)]))  # type: ignore[arg-type,dict-item]
    assert lean.asdict(value) == dataclasses.asdict(value)
    assert lean.asdict(value)["secret"] == ({"x": 5}, [{"x": 6}])


def test_copies() -> None:
    for value in (Point(1, names={"a": 1}), Open(2), Mutable(3)):
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.copy(value) == copy.deepcopy(value) == value


def test_what_the_standard_library_asks_for() -> None:
    assert dataclasses.is_dataclass(Point)
    assert dataclasses.is_dataclass(Point(1))
    assert [one.name for one in dataclasses.fields(Point)] == ["x", "y", "names", "secret"]
    assert list(inspect.signature(Point).parameters) == ["x", "y", "names", "secret"]
    assert Point.__match_args__ == ("x", "y", "names", "secret")
    assert Point.__doc__ == "A place."
    assert Point.__qualname__ == "Point"
    assert Point.__slots__ == Point.__match_args__
    match Point(1, 5):
        case Point(x, y):
            assert (x, y) == (1, 5)
    assert Open.x == 1


def test_a_fetch_imports_no_dataclasses() -> None:
    code = (
        "import sys, modeldrop.commands.fetch, modeldrop.storage.read.obstore_client\n"
        "import modeldrop.fetcher.download.download\n"
        "print({'dataclasses', 'inspect'} & sys.modules.keys())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
