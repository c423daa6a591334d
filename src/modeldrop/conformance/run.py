"""Runs the checks without pytest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.scratch import NonconformantError, NotApplicableError, scratch_model
from modeldrop.errors import ModeldropError
from modeldrop.storage.write.store import Store


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """What a check found. ``fault`` is "" where the promise is kept; ``skipped`` says why it cannot be looked at."""

    check: Check
    fault: str = ""
    skipped: str = ""


def run_checks(store: Store) -> Iterator[ConformanceResult]:
    """Run the checks that are not slow one after another; each result as it is known."""
    for check in CHECKS:
        if not check.slow:
            yield _result(check, store)


def _result(check: Check, store: Store) -> ConformanceResult:
    try:
        with scratch_model(store) as scratch:
            check.run(scratch)
    except NotApplicableError as reason:
        return ConformanceResult(check, skipped=str(reason))
    except NonconformantError as error:
        return ConformanceResult(check, str(error))
    except ModeldropError as error:
        return ConformanceResult(check, error.message)
    return ConformanceResult(check)
