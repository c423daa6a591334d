"""The options of a fetch, from the command line, else from the environment (for containers), else as they are.

An empty variable is as good as none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from modeldrop.config import read_duration
from modeldrop.errors import UsageError
from modeldrop.fetcher.display import FORMATS, TEXT
from modeldrop.fetcher.options import AUTO, DEFAULT_KEEP, DEFAULT_TIMEOUT, LAST_GOOD, POLICIES, Options
from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")
ENVIRONMENT = """
environment, where an option is not given:
  MODELDROP_HOME, MODELDROP_VARIANT, MODELDROP_ON_UNAVAILABLE, MODELDROP_MAX_STALE, MODELDROP_MIN_GENERATION,
  MODELDROP_TIMEOUT, MODELDROP_START_JITTER, MODELDROP_LOG_FORMAT, MODELDROP_METRICS
"""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """What ``fetch`` and ``run`` were told.

    Attributes:
        options: of each fetch.
        start_jitter: seconds to wait at most before the first request.
        metrics: the file for metrics, or "".
    """

    options: Options
    start_jitter: float
    metrics: str


def add_fetch_options(parser: argparse.ArgumentParser, *, references: str = "+") -> None:
    """Arguments that ``fetch``, ``run`` and ``watch`` share; ``references`` is how many there must be, for argparse."""
    add = parser.add_argument
    add("references", metavar="REFERENCE", nargs=references, help="REGISTRY/MODEL[@VERSION|@CHANNEL]")
    add("-d", "--directory", metavar="DIR", help="where snapshots are kept (or MODELDROP_HOME)")
    add("--variant", help="the variant (default: auto, what this CPU runs best and faithfully)")
    add("--as", dest="as_name", default="", metavar="PATH", help="give the chosen graph this path in the snapshot")
    add(
        "--on-unavailable",
        metavar="POLICY",
        help="without the registry: last-good (what this disk has; the default), fail, or offline (never ask)",
    )
    add("--max-stale", metavar="AGE", help="how old the last good answer may be (default: any age)")
    add("--min-generation", metavar="N", help="refuse a channel whose generation is below N")
    add("--self-test", action="store_true", help="run the golden inputs on this CPU before it is used")
    add("--timeout", metavar="TIME", help="limit for each model (default: 30m)")
    add("--keep", type=int, default=DEFAULT_KEEP, metavar="N", help="snapshots to keep (default: 3)")
    add("--start-jitter", metavar="TIME", help="wait a random time up to this first: for rollouts")
    add("--quiet", action="store_true", help="only warnings and errors")
    add("--log-format", metavar="FORMAT", help="text, or json: an object a line on standard error")
    add("--metrics", metavar="FILE", help="write figures for Prometheus into this file")


def fetch_settings(arguments: argparse.Namespace) -> FetchSettings:
    """What the arguments and the environment say.

    Raises:
        UsageError: a value that cannot be meant; it names the option or the variable.
    """
    options = Options(
        variant=_setting(arguments, "variant", _text, AUTO),
        as_name=arguments.as_name,
        on_unavailable=_setting(arguments, "on_unavailable", _one_of(POLICIES), LAST_GOOD),
        max_stale=_setting(arguments, "max_stale", _seconds, None),
        min_generation=_setting(arguments, "min_generation", _count, 0),
        self_test=arguments.self_test,
        timeout=_setting(arguments, "timeout", _some_seconds, DEFAULT_TIMEOUT),
        keep=arguments.keep,
    )
    jitter = _setting(arguments, "start_jitter", _seconds, 0.0)
    return FetchSettings(options, jitter, _setting(arguments, "metrics", _text, ""))


def variant_is_given(arguments: argparse.Namespace) -> bool:
    """Whether the command line or the environment names a variant."""
    return arguments.variant is not None or bool(os.environ.get("MODELDROP_VARIANT"))


def log_format(arguments: argparse.Namespace) -> str:
    """How to say what happens.

    Raises:
        UsageError: there is no such format.
    """
    return _setting(arguments, "log_format", _one_of(FORMATS), TEXT)


def _setting(arguments: argparse.Namespace, name: str, read: Callable[[str, str], _T], default: _T) -> _T:
    given = getattr(arguments, name)
    if given is not None:
        return read(given, f"--{name.replace('_', '-')}")
    variable = f"MODELDROP_{name.upper()}"
    found = os.environ.get(variable, "")
    return read(found, variable) if found else default


def _text(text: str, _where: str) -> str:
    return text


def _seconds(text: str, where: str) -> float:
    return read_duration(text, where, unit="s")


def _some_seconds(text: str, where: str) -> float:
    seconds = read_duration(text, where, unit="s")
    if not seconds:
        raise UsageError(f"{where} is 0; a fetch needs some time.", "Write a limit such as 5m.")
    return seconds


def _count(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UsageError(f"{where} {text[:40]!r} is not a number.", "Write 0 or more.")
    return int(text)


def _one_of(values: Sequence[str]) -> Callable[[str, str], str]:
    def read(text: str, where: str) -> str:
        if text not in values:
            raise UsageError(f"{where} cannot be {text[:40]!r}.", f"Write one of: {', '.join(values)}.")
        return text

    return read
