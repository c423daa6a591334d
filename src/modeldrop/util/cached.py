"""``cached_property`` without a lock.

``functools`` of Python 3.11 has one for each property of a class, held while a value is made. Who forks meanwhile has a
child in which nobody lets go of it, and every object's property waits for ever. Here two threads that are first at
once both make the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from functools import cached_property as cached_property  # noqa: PLC0414  others import it from here
else:

    class cached_property:  # noqa: N801  as functools calls it
        """See ``functools.cached_property``."""

        def __init__(self, function: Callable[[Any], Any]) -> None:
            self._function = function
            self.__doc__ = function.__doc__

        def __set_name__(self, _owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, _owner: type) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._function(instance)
            return value
