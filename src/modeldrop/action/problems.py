"""Wrong inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modeldrop.errors import UsageError
from modeldrop.storage.errors import redact

_MAX_SHOWN = 100


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
