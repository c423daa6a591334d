"""Every failure modeldrop expects, each with an exit code of its own.

``message`` says what failed and where, ``hint`` what to do next. Codes are part of the public interface and never
change their meaning; 0 is success, 1 an unexpected failure (a defect of modeldrop), 130 an interrupt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class ModeldropError(Exception):
    """Base of all expected failures.

    Args:
        message: what failed, and where: one sentence or two, without a traceback.
        hint: what the reader can do next, or "" where the message already says it.

    Attributes:
        log: the file, which stays, with what the process said that failed; the hint names it. "" where there is none.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = ""

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


NO_THREADS = "this process may start no more threads"
"""Why something was not done; the next is what to do about it."""

MORE_THREADS = "Raise the limit on processes: ulimit -u, or the container's pids limit."


class UsageError(ModeldropError):
    """An invalid argument: a malformed reference, a bad name, options that exclude each other."""

    exit_code = 2


class RecipeError(ModeldropError):
    """A recipe, or modeldrop.toml, with an unknown key, variant, threshold or a value of the wrong type."""

    exit_code = 3


class FormatError(ModeldropError):
    """A document of the registry (manifest, channel, claim, build record) that does not parse.

    ``field`` is the path of the offending field, such as ``files[2].path``; "" for the whole document.
    """

    exit_code = 4

    def __init__(self, message: str, hint: str = "", *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message, hint)
        self.field = field


class NotFoundError(ModeldropError):
    """The registry has no such model, version or channel."""

    exit_code = 5


class VariantError(ModeldropError):
    """The version has no such variant."""

    exit_code = 6


class SourceError(ModeldropError):
    """The source is missing, gated, misspelt, incomplete or damaged."""

    exit_code = 7


class TaskError(ModeldropError):
    """The model does not support the task, or no task could be inferred."""

    exit_code = 8


class ExportError(ModeldropError):
    """The exporter or the quantizer failed."""

    exit_code = 9


class FidelityError(ModeldropError):
    """A variant does not behave like the original within the recipe's thresholds."""

    exit_code = 10


class GateError(ModeldropError):
    """A variant is larger, or slower, than the recipe allows."""

    exit_code = 19


class IncompleteError(ModeldropError):
    """A build lacks a file a runtime needs, or does not load from a clean copy."""

    exit_code = 11


class RegistryError(ModeldropError):
    """The registry cannot be reached, read or written.

    ``patience`` is for how many seconds asking again may help; 0: it will not.
    """

    exit_code = 12

    def __init__(self, message: str, hint: str = "", *, patience: float = 0.0) -> None:
        super().__init__(message, hint)
        self.patience = patience


class ConflictError(ModeldropError):
    """A conditional write was refused, because another writer was first: read again and decide again."""

    exit_code = 13


class IntegrityError(ModeldropError):
    """Bytes do not have the digest or size that the manifest gives."""

    exit_code = 14


class DiskError(ModeldropError):
    """The local disk is full, read-only, or the destination cannot be used; or this machine's limits are met."""

    exit_code = 15


class MissingExtraError(ModeldropError):
    """A command needs an optional dependency that is not installed."""

    exit_code = 16


class RefusedError(ModeldropError):
    """A valid command that is not allowed, such as promoting a retired version."""

    exit_code = 17


class HookError(ModeldropError):
    """A program could not be told which version is in use. The message is a sentence, without secrets."""

    exit_code = 20


class TrustError(ModeldropError):
    """What a registry says is not signed by those who are trusted, has expired, or is about something else."""

    exit_code = 21


class NotExecutableError(ModeldropError):
    """The program that is to run is there, and cannot be executed: the exit code is a shell's."""

    exit_code = 126


class CommandNotFoundError(ModeldropError):
    """The program that is to run is not there: the exit code is a shell's."""

    exit_code = 127


class UserTestError(ModeldropError):
    """A version failed the user's own test: it is published, and no channel is moved to it but by ``promote``.

    ``published`` is what became of every registry, as ``modeldrop.publishing.publish`` gives it.
    """

    exit_code = 18

    def __init__(self, message: str, hint: str = "", *, published: Sequence[Any] = ()) -> None:
        super().__init__(message, hint)
        self.published = tuple(published)
