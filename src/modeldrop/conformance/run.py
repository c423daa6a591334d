"""Runs the checks without pytest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.scratch import LackError, NonconformantError, NotApplicableError, scratch_model
from modeldrop.errors import ModeldropError
from modeldrop.storage.write.store import Store


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """What a check found.

    Attributes:
        check: which.
        fault: how the promise is broken, "" where it is not.
        lack: what the service does without harm, "" where the promise is kept whole.
        skipped: why it cannot be looked at, "" where it can.
    """

    check: Check
    fault: str = ""
    lack: str = ""
    skipped: str = ""


def run_checks(store: Store) -> Iterator[ConformanceResult]:
    """Run the checks that are not slow one after another; each result as it is known."""
    for check in CHECKS:
        if not check.slow:
            yield run_check(check, store)


def run_check(check: Check, store: Store) -> ConformanceResult:
    """Run one check in a scratch model of its own."""
    try:
        with scratch_model(store) as scratch:
            check.run(scratch)
    except NotApplicableError as reason:
        return ConformanceResult(check, skipped=str(reason))
    except LackError as lack:
        return ConformanceResult(check, lack=str(lack))
    except NonconformantError as error:
        return ConformanceResult(check, str(error))
    except ModeldropError as error:
        return ConformanceResult(check, error.message)
    return ConformanceResult(check)
