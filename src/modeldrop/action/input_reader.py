"""Read the action's inputs one by one, and collect what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from modeldrop.errors import ModeldropError, UsageError
from modeldrop.storage.errors import redact

_TRUE, _FALSE = "true", "false"
_MAX_SHOWN = 100
_MAX_LINE = 1024

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Problem:
    """An input that is wrong: its name, its value, and what is wrong with it or allowed instead."""

    name: str
    value: str
    message: str

    def __str__(self) -> str:
        """The sentence of the annotation."""
        value = redact(self.value)
        value = value if len(value) <= _MAX_SHOWN else f"{value[: _MAX_SHOWN - 1]}…"
        return f"The input {self.name} is {value!r}. {redact(self.message)}"


class InputsError(UsageError):
    """Some inputs are wrong. ``problems`` has them all; ``matrix`` is that of modeldrop.toml, if it could be read."""

    def __init__(self, problems: Sequence[Problem], matrix: str = "") -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.matrix = matrix


@dataclass(slots=True)
class InputReader:
    """Takes inputs one by one, and collects what is wrong with them."""

    values: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)

    def text(self, name: str) -> str:
        """An input, without the blanks around it."""
        return self.values.get(name, "").strip()

    def line(self, name: str) -> str:
        """An input of one line; "" where it is wrong."""
        value = self.text(name)
        if value.isprintable() and len(value) <= _MAX_LINE:
            return value
        self.problem(name, f"It must be one line of at most {_MAX_LINE} characters, without control characters.")
        return ""

    def lines(self, name: str) -> list[str]:
        """An input's lines, without empty ones."""
        return [line.strip() for line in self.text(name).split("\n") if line.strip()]

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """An input that is one of a few words, in capitals or not; the first where it is not given."""
        value = self.text(name).lower() or allowed[0]
        if value not in allowed:
            self.problem(name, f"Allowed: {', '.join(allowed)}.")
        return value

    def flag(self, name: str) -> bool:
        """An input that is true or false."""
        value = self.text(name) or _FALSE
        if value.lower() not in {_TRUE, _FALSE}:
            self.problem(name, "Allowed: true, false.")
        return value.lower() == _TRUE

    def guard(self, name: str, read: Callable[[], _T], value: str | None = None) -> _T | None:
        """What ``read`` gives; None where it refuses the input."""
        try:
            return read()
        except ModeldropError as error:
            self.problem(name, f"{error.message} {error.hint}".strip(), value)
        except (OSError, ValueError) as error:
            self.problem(name, f"It cannot be used: {getattr(error, 'strerror', None) or error}.", value)
        return None

    def problem(self, name: str, message: str, value: str | None = None) -> None:
        """Note that an input is wrong; what was noted of it first is enough."""
        if all(problem.name != name for problem in self.problems):
            self.problems.append(Problem(name, self.text(name) if value is None else value, message))

    def finish(self, matrix: str = "") -> None:
        """Raise what was collected."""
        if self.problems:
            raise InputsError(self.problems, matrix)
