"""What a check of the doctor found, and what the checks of all clouds share."""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from modeldrop.errors import RegistryError
from modeldrop.storage.answer_text import describe
from modeldrop.storage.errors import SET_CLOCK, WHICH_RIGHTS, detail, unreachable
from modeldrop.storage.sdk_answers import UnreadableAnswerError, answers_explained
from modeldrop.util import http
from modeldrop.util.retry import with_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modeldrop.doctor.policies import AccessPolicies
    from modeldrop.errors import ModeldropError
    from modeldrop.storage.write.store import Store


ANSWER_SECONDS = 8.0

_Result = TypeVar("_Result")

REGISTRY, SETTINGS, REACHABLE, SIGNED_IN = "registry", "settings", "reachable", "signed in"
LIST, READ, WRITE, DELETE = "list", "read", "write", "delete"
SERVICE = "service"
CREATE_ONLY, SWAP = "create-only", "compare-and-swap"
CLOCK, LIFECYCLE, EXPOSURE, SPACE = "clock", "lifecycle", "exposure", "space"
LARGE_FILES = "large files"
FETCHER = "fetcher"
POLICY_CHECK = "policy"
PROMISES = (LIST, READ, WRITE, DELETE, CREATE_ONLY, SWAP, LARGE_FILES, FETCHER)
"""What a store must do. The doctor tries each once; ``modeldrop.conformance`` has checks of every one."""
WARN_SECONDS, FAIL_SECONDS = 60, 300
"""S3, GCS and Azure refuse requests that are 15 minutes off."""


class CheckState(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line.

    Attributes:
        name: what was looked at, in a word or two.
        state: how it ended.
        text: what was found; for UNCHECKED, why it was not looked at.
        fix: what to do, lines or a whole policy; "" where nothing is to be done.
    """

    name: str
    state: CheckState
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
class FirstResponse:
    """How the first request went.

    Attributes:
        stage: how far it came. A refusal for lack of rights is an answer.
        endpoint: the service's address.
        ahead: seconds that this machine's clock is ahead of the service's, None where no answer tells.
        error: why it came no further, None for ANSWERED.
        certificates: the AWS profile's file of CAs, "" where it names none.
    """

    stage: Stage
    endpoint: str
    ahead: float | None = None
    error: ModeldropError | None = None
    certificates: str = ""


class Probe(Protocol):
    """The checks that differ from one kind of store to the next. None of the methods raises."""

    @property
    def store(self) -> Store:
        """The registry's store."""

    @property
    def policies(self) -> AccessPolicies:
        """What to grant where a right is missing."""

    def first_request(self) -> FirstResponse:
        """Make the first request, a listing."""

    def identity(self) -> CheckResult:
        """Which identity this process is signed in as."""

    def bucket_checks(self) -> list[CheckResult]:
        """LIFECYCLE and EXPOSURE of a bucket, LARGE_FILES on S3 and GCS, SERVICE on S3; SPACE of a folder."""

    def cleanup(self) -> None:
        """Remove what the checks left besides objects."""


def ok(name: str, text: str) -> CheckResult:
    """Nothing to do."""
    return CheckResult(name, CheckState.OK, text)


def warning(name: str, text: str, fix: str) -> CheckResult:
    """It works, and somebody should look at it."""
    return CheckResult(name, CheckState.WARNING, text, fix)


def unchecked(name: str, why: str) -> CheckResult:
    """It could not be looked at."""
    return CheckResult(name, CheckState.UNCHECKED, why)


def failed_check(name: str, error: ModeldropError, fix: str = "") -> CheckResult:
    """It does not work; the error's own advice unless ``fix`` is better."""
    return CheckResult(name, CheckState.FAILED, error.message, fix or _own_hint(error))


def no_answer(name: str, error: Exception) -> CheckResult:
    """It could not be looked at because the service did not answer as expected."""
    if isinstance(error, UnreadableAnswerError) and error.answer is not None:
        return unchecked(name, f"the service answers {describe(error.answer.status, error.answer.body)}")
    return unchecked(name, "no answer" if isinstance(error, TimeoutError) else detail(error))


def seconds_ahead(date: str | None) -> float | None:
    """How far this machine's clock is ahead of a ``Date`` header that came just now, None without a usable one."""
    if not date:
        return None
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def within_time_limit(action: Callable[[], _Result], meant: tuple[type[Exception], ...]) -> _Result:
    """The action's result; where it takes too long, its thread is left behind.

    Args:
        action: asks an SDK something.
        meant: what the SDK raises on purpose.

    Raises:
        TimeoutError: it took more than ANSWER_SECONDS.
        UnreadableAnswerError: the SDK fails at what was answered.
        Exception: whatever the action raises.
    """

    def explained() -> _Result:
        with answers_explained(*meant):
            return action()

    return with_timeout(explained, ANSWER_SECONDS, "modeldrop-doctor")


def touches(rule: str, registry: str) -> bool:
    """Whether what begins with one prefix may begin with the other."""
    return rule.startswith(registry) or registry.startswith(rule)


def sentence(parts: Iterable[str]) -> str:
    """The parts that say something, with semicolons between."""
    return "; ".join(part for part in parts if part)


def shortened_key_id(name: str) -> str:
    """Enough of an access key's id to recognize it. Some services use the same word as its secret."""
    return f"{name[:4]}…{name[-4:]}" if len(name) >= 16 else f"{name[:2]}…"


def first_request(
    url: str,
    endpoint: str,
    ask: Callable[[], str | None],
    explained: Callable[[Exception], FirstResponse],
    meant: tuple[type[Exception], ...],
) -> FirstResponse:
    """Make the first request.

    Args:
        url: the registry.
        endpoint: the service's address.
        ask: makes it, and gives the answer's ``Date``.
        explained: what its failure means.
        meant: what ``ask`` raises on purpose.
    """
    try:
        date = within_time_limit(ask, meant)
    except TimeoutError:
        error = unreachable(url, endpoint, "it takes connections and does not answer")
        return FirstResponse(Stage.NOT_REACHED, endpoint, error=error)
    except Exception as failure:  # noqa: BLE001  SDKs raise their own, ValueError and OSError
        return explained(failure)
    return FirstResponse(Stage.ANSWERED, endpoint, seconds_ahead(date))


def first_results(answer: FirstResponse) -> list[CheckResult]:
    """What the first request says of reachability, sign-in and the clock."""
    error = answer.error
    if answer.stage is Stage.NOT_REACHED and error is not None:
        return [failed_check(REACHABLE, error)]
    if answer.stage is Stage.NOT_SIGNED_IN and error is not None:
        reached = answer.ahead is not None
        first = ok(REACHABLE, _route(answer)) if reached else unchecked(REACHABLE, "nobody is signed in")
        return [first, failed_check(SIGNED_IN, error)]
    results = [ok(REACHABLE, _route(answer))]
    if answer.stage is Stage.WRONG_CLOCK and error is not None:
        return [*results, failed_check(CLOCK, error)]
    if answer.ahead is not None:
        results.append(_clock(answer.ahead))
    return results


def _clock(ahead: float) -> CheckResult:
    off = abs(ahead)
    if off < 2:  # the service tells whole seconds
        return ok(CLOCK, "agrees with the service's")
    text = f"{off:.0f} s {'ahead of' if ahead > 0 else 'behind'} the service's"
    if off > FAIL_SECONDS:
        return failed_check(
            CLOCK, RegistryError(f"{text}; services refuse requests that are 15 minutes off."), SET_CLOCK
        )
    return warning(CLOCK, text, SET_CLOCK) if off > WARN_SECONDS else ok(CLOCK, text)


def _route(answer: FirstResponse) -> str:
    """An address, how it is reached, and which certificates besides the system's are trusted for it."""
    endpoint = answer.endpoint
    if "://" not in endpoint:
        return endpoint  # a folder's
    proxy = http.proxy_for(endpoint).rpartition("@")[2].rpartition("://")[2]
    named = [name for name in http.CERTIFICATE_VARIABLES if os.environ.get(name)]
    named += ["ca_bundle of the AWS profile"] if answer.certificates else []
    trusting = f"trusting {', '.join(named)}" if named and endpoint.startswith("https://") else ""
    return ", ".join(part for part in (endpoint, f"through the proxy {proxy}" if proxy else "", trusting) if part)


def advice(error: ModeldropError, policy: str) -> str:
    """What to do about a failure: after a refusal for lack of rights, the policy in place of the doctor's name."""
    before, found, _ = error.hint.partition(WHICH_RIGHTS)
    return f"{before.strip()}\n{policy}".strip() if found and policy else _own_hint(error)


def _own_hint(error: ModeldropError) -> str:
    """An error's advice, but not the one to ask the doctor."""
    return error.hint.partition("Check it:")[0].strip()
