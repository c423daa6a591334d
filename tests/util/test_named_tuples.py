"""Our NamedTuple does what that of typing does."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import typing
from collections.abc import Callable
from typing import Any

import pytest

from modeldrop.util.named_tuples import NamedTuple


class Ours(NamedTuple):
    """A point."""

    x: int
    y: str = "up"
    z: tuple[int, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.x


class Theirs(typing.NamedTuple):
    """A point."""

    x: int
    y: str = "up"
    z: tuple[int, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.x


class Checked(Ours):
    """A subclass without fields of its own, as fetcher.options has one."""

    __slots__ = ()


MAKES: list[Callable[[Any], Any]] = [
    lambda cls: cls(1),
    lambda cls: cls(1, "down"),
    lambda cls: cls(1, "down", (3,)),
    lambda cls: cls(x=1, z=(3,)),
    lambda cls: cls(1, z=(3,)),
    lambda cls: cls(1)._replace(y="left"),
    lambda cls: cls._make((1, "down", ())),
    lambda cls: copy.deepcopy(cls(1)),
    lambda cls: pickle.loads(pickle.dumps(cls(1, "down"))),
]
REFUSED: list[Callable[[Any], Any]] = [
    lambda cls: cls(),
    lambda cls: cls(1, "down", (), 4),
    lambda cls: cls(1, x=1),
    lambda cls: cls(1, w=1),
    lambda cls: cls(y="down"),
    lambda cls: cls._make((1, "down")),
]


@pytest.mark.parametrize("make", MAKES)
def test_instances_are_alike(make: Callable[[Any], Any]) -> None:
    ours, theirs = make(Ours), make(Theirs)
    assert type(ours) is Ours
    assert tuple(ours) == tuple(theirs)
    assert (ours.x, ours.y, ours.z, ours.twice) == (theirs.x, theirs.y, theirs.z, theirs.twice)
    assert ours._asdict() == theirs._asdict()
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert hash(ours) == hash(theirs)
    assert ours == make(Ours)
    assert ours != (9, "up", ())


@pytest.mark.parametrize("make", REFUSED)
def test_what_the_original_refuses_is_refused(make: Callable[[Any], Any]) -> None:
    for cls in (Theirs, Ours):
        with pytest.raises(TypeError):
            make(cls)


def test_classes_are_alike() -> None:
    assert Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults
    assert Ours.__match_args__ == Theirs.__match_args__
    assert list(inspect.signature(Ours).parameters) == list(inspect.signature(Theirs).parameters)
    assert typing.get_type_hints(Ours) == typing.get_type_hints(Theirs)


def test_an_instance_cannot_be_changed() -> None:
    one = Checked(1)
    assert (type(one), one.twice, type(one._replace(x=2))) == (Checked, 2, Checked)
    for name in ("x", "w"):
        with pytest.raises(AttributeError):
            setattr(one, name, 2)


def test_matching() -> None:
    match Ours(1, "down"):
        case Ours(x, "down"):
            assert x == 1
        case _:
            pytest.fail("not matched")


def test_a_fetch_compiles_no_class() -> None:
    code = (
        "import sys, typing\n"
        "typing.NamedTupleMeta.__new__ = None\n"
        "import modeldrop.commands.fetch, modeldrop.fetcher.download.download, modeldrop.format.manifest\n"
        "import modeldrop.storage.read.obstore_client\n"
        "print({'dataclasses', 'inspect'} & sys.modules.keys())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
