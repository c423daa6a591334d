"""What a fetch may be told besides the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from modeldrop.errors import RegistryError, UsageError
from modeldrop.fetcher.layout import Layout
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeldrop.fetcher.option_values import OptionValues

AUTO = "auto"
LAST_GOOD, FAIL, OFFLINE = "last-good", "fail", "offline"
POLICIES = (LAST_GOOD, FAIL, OFFLINE)
DEFAULT_TIMEOUT = 1800.0
DEFAULT_KEEP = 3


class StoppedError(Exception):
    """Whoever wanted the fetch or the watch has stopped it while it was at work."""


class _OptionFields(NamedTuple):
    variant: str = AUTO
    as_name: str = ""
    consumer: str = ""
    on_unavailable: str = LAST_GOOD
    max_stale: float | None = None
    min_generation: int = 0
    self_test: bool = False
    timeout: float = DEFAULT_TIMEOUT
    keep: int = DEFAULT_KEEP
    accept_older_generation: bool = False
    trust: list[str] | tuple[str, ...] | None = None
    trust_threshold: int | None = None
    require_attestation: str | None = None
    no_delta: bool = False


class Options(_OptionFields):
    """The options of a fetch.

    Attributes:
        variant: the variant's name; ``auto`` takes what this CPU runs best and faithfully.
        as_name: a path in the snapshot that the chosen graph is to have, for servers that insist on one, or "".
        consumer: the name of the program that will load the snapshot, whose files then are where it looks, or "".
        on_unavailable: what to do when the registry cannot be asked: ``last-good`` gives the last snapshot that
            this disk has of the channel, ``fail`` gives the error, ``offline`` never asks.
        max_stale: seconds that the last good answer may be old; None for any age.
        min_generation: the channel's generation must be at least this.
        self_test: run the version's golden inputs on this CPU before it is used.
        timeout: seconds that all of it may take.
        keep: how many snapshots of the model to keep on disk at least.
        accept_older_generation: believe a channel that went back since this disk last saw it, because its registry
            was rebuilt or restored. Without it that counts as no answer.
        trust: public keys (``ed25519:…``) that must have signed what is used; None for what MODELDROP_TRUST or
            modeldrop.toml says, which may be that nothing need be signed.
        trust_threshold: how many of these keys must have signed; None for what is said there, else 1.
        require_attestation: the repository on GitHub that must have attested to what is used, such as
            ``acme/models,ref=refs/heads/main``; None for what MODELDROP_REQUIRE_ATTESTATION or modeldrop.toml says.
        no_delta: fetch files whole, even where an older version is on this disk and the registry has deltas from it.

    Raises:
        UsageError: an invalid value.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers know the fields' own signature

        def __new__(cls, *values: Any, **named: Any) -> Self:
            self = super().__new__(cls, *values, **named)
            self._check()
            return self

    @property
    def layout(self) -> Layout:
        """Where the graphs are to be in the snapshot."""
        return Layout(self.as_name, self.consumer)

    def _check(self) -> None:
        if self.consumer:
            from modeldrop.fetcher.consumers import consumer_named

            consumer_named(self.consumer)
            if self.as_name:
                raise UsageError("--for and --as exclude each other.", "Write one of them.")
        if self.on_unavailable not in POLICIES:
            raise UsageError(
                f"{self.on_unavailable!r} is not a policy for a registry that cannot be asked.",
                f"Write one of: {', '.join(POLICIES)}.",
            )
        if self.max_stale is not None and not self.max_stale >= 0:
            raise UsageError("An age cannot be negative.", "Write max-stale as 0 or more, such as 24h.")
        if not self.timeout > 0:
            raise UsageError("A fetch needs some time.", "Write a timeout of more than 0 seconds.")
        if self.min_generation < 0 or self.keep < 1:
            raise UsageError("min-generation is 0 or more, keep is 1 or more.")


def with_overrides(options: Options | None, overrides: Mapping[str, Any] | OptionValues, function: str) -> Options:
    """Options with some fields set by name.

    Raises:
        UsageError: there is no such option, or a value is invalid; ``function`` is what was called with it.
    """
    unknown = sorted(set(overrides) - set(Options._fields))
    if unknown:
        raise UsageError(f"{function} has no option {', '.join(unknown)}.", f"There are: {', '.join(Options._fields)}.")
    return Options(**{**(options or Options())._asdict(), **overrides})


def never() -> bool:
    """Nobody stops it."""
    return False


def time_limit(seconds: float, stopped: Callable[[], bool] = never) -> Deadline:
    """The limit of one fetch, whatever it waits for; StoppedError where somebody has ``stopped`` it."""

    def error(seconds: float, what: str) -> Exception:
        return StoppedError() if stopped() else _too_late(seconds, what)

    return Deadline(seconds, error, stopped)


def _too_late(seconds: float, what: str) -> RegistryError:
    return RegistryError(
        f"The time limit of {seconds:g} s is over, waiting for {what}.",
        "What is on disk already is kept: run the same command again, or give it more time (--timeout).",
    )
