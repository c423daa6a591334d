"""What a check of the doctor found."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeldrop.storage.errors import detail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.doctor.policies import Policies
    from modeldrop.errors import ModeldropError
    from modeldrop.storage.write.store import Store


REGISTRY, REACHABLE, SIGNED_IN = "registry", "reachable", "signed in"
LIST, READ, WRITE, DELETE = "list", "read", "write", "delete"
CREATE_ONLY, SWAP = "create-only", "compare-and-swap"
CLOCK, LIFECYCLE, EXPOSURE, SPACE = "clock", "lifecycle", "exposure", "space"


class State(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Result:
    """One line.

    Attributes:
        name: what was looked at, in a word or two.
        state: how it ended.
        text: what was found; for UNCHECKED, why it was not looked at.
        fix: what to do, lines or a whole policy; "" where nothing is to be done.
    """

    name: str
    state: State
    text: str
    fix: str = ""

    def to_json(self) -> Mapping[str, str]:
        """For programs."""
        return {"name": self.name, "state": self.state.value, "text": self.text, "fix": self.fix}


class Stage(enum.Enum):
    """How far the first request came."""

    NOT_REACHED = "not reached"
    NOT_SIGNED_IN = "not signed in"
    WRONG_CLOCK = "wrong clock"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the first request.

    Attributes:
        stage: how far it came. A refusal for lack of rights is an answer.
        endpoint: the service's address.
        ahead: seconds that this machine's clock is ahead of the service's, None where no answer tells.
        error: why it came no further, None for ANSWERED.
    """

    stage: Stage
    endpoint: str
    ahead: float | None = None
    error: ModeldropError | None = None


class Patient(Protocol):
    """A registry under examination: what is particular to its kind. None of the methods raises."""

    @property
    def store(self) -> Store:
        """The registry's store."""

    @property
    def policies(self) -> Policies:
        """What to grant where a right is missing."""

    def ask(self) -> Answer:
        """Make a first request, a listing."""

    def identity(self) -> Result:
        """As whom this process is signed in."""

    def bucket(self) -> list[Result]:
        """What the bucket itself does to objects and shows to others: LIFECYCLE, EXPOSURE; a folder's SPACE."""

    def tidy(self) -> None:
        """Remove what the checks left besides objects."""


def ok(name: str, text: str) -> Result:
    """Nothing to do."""
    return Result(name, State.OK, text)


def warning(name: str, text: str, fix: str) -> Result:
    """It works, and somebody should look at it."""
    return Result(name, State.WARNING, text, fix)


def unchecked(name: str, why: str) -> Result:
    """It could not be looked at."""
    return Result(name, State.UNCHECKED, why)


def failed(name: str, error: ModeldropError, fix: str = "") -> Result:
    """It does not work; the error's own advice unless ``fix`` is better."""
    return Result(name, State.FAILED, error.message, fix or error.hint)


def no_answer(name: str, error: Exception) -> Result:
    """It could not be looked at because the service did not answer as expected."""
    return unchecked(name, "no answer" if isinstance(error, TimeoutError) else detail(error))
