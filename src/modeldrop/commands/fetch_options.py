"""The options of a fetch, from the command line, else from the environment (for containers), else as they are.

An empty variable is as good as none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_no_delta
from modeldrop.config import setting, variable
from modeldrop.fetcher.options import DEFAULT_KEEP, Options
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    import argparse

ENVIRONMENT = """
environment, where an option is not given:
  MODELDROP_HOME, MODELDROP_VARIANT, MODELDROP_ON_UNAVAILABLE, MODELDROP_MAX_STALE, MODELDROP_MIN_GENERATION,
  MODELDROP_ACCEPT_OLDER_GENERATION, MODELDROP_TRUST, MODELDROP_TRUST_THRESHOLD,
  MODELDROP_REQUIRE_ATTESTATION, MODELDROP_NO_DELTA, MODELDROP_TIMEOUT, MODELDROP_START_JITTER, MODELDROP_LOG_FORMAT,
  MODELDROP_METRICS
"""


class FetchSettings(NamedTuple):
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
        "--for", dest="consumer", default="", metavar="PROGRAM",
        help="put the chosen graphs where this program looks: sentence-transformers, transformers.js, tei, fastembed, "
        "optimum, optimum-intel, onnxruntime-genai, openvino-genai, triton, kserve",
    )  # fmt: skip
    add(
        "--on-unavailable",
        metavar="CHOICE",
        help="without the registry: last-good (what this disk has; the default), fail, or offline (never ask)",
    )
    add("--max-stale", metavar="AGE", help="how old the last good answer may be (default: any age)")
    add("--min-generation", metavar="N", help="refuse a channel whose generation is below N")
    add(
        "--accept-older-generation", action="store_const", const="yes",
        help="believe a channel that went back, because its registry was rebuilt or restored",
    )  # fmt: skip
    add(
        "--trust", action="append", metavar="KEY",
        help="use only what this public key has signed (can be repeated: any of them; or MODELDROP_TRUST)",
    )  # fmt: skip
    add("--trust-threshold", metavar="N", help="how many of the trusted keys must have signed (default: 1)")
    add(
        "--require-attestation", metavar="REPOSITORY",
        help="use only what a workflow of this repository on GitHub has attested to: OWNER/NAME[,ref=…][,workflow=…]",
    )  # fmt: skip
    add_no_delta(parser)
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
        UsageError: an invalid value; it names the option or the variable.
    """
    options = Options(
        variant=setting("variant", arguments.variant),
        as_name=arguments.as_name,
        consumer=arguments.consumer,
        on_unavailable=setting("on_unavailable", arguments.on_unavailable),
        max_stale=setting("max_stale", arguments.max_stale),
        min_generation=setting("min_generation", arguments.min_generation),
        accept_older_generation=setting("accept_older_generation", arguments.accept_older_generation),
        trust=arguments.trust,
        trust_threshold=None
        if arguments.trust_threshold is None
        else setting("trust_threshold", arguments.trust_threshold),
        require_attestation=arguments.require_attestation,
        no_delta=setting("no_delta", arguments.no_delta),
        self_test=arguments.self_test,
        timeout=setting("timeout", arguments.timeout),
        keep=arguments.keep,
    )
    return FetchSettings(
        options, setting("start_jitter", arguments.start_jitter), setting("metrics", arguments.metrics)
    )


def variant_is_given(arguments: argparse.Namespace) -> bool:
    """Whether the command line or the environment names a variant."""
    return arguments.variant is not None or bool(variable("variant"))


def log_format(arguments: argparse.Namespace) -> str:
    """How to say what happens.

    Raises:
        UsageError: there is no such format.
    """
    text: str = setting("log_format", arguments.log_format)
    return text
