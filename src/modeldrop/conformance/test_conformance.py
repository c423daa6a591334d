"""The conformance suite as a pytest module; ``modeldrop.conformance`` says how to run it."""

from __future__ import annotations

import pytest

from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.scratch import LackError, NotApplicableError, ScratchModel


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_conformance(check: Check, scratch: ScratchModel) -> None:
    """One promise of a store."""
    try:
        check.run(scratch)
    except (LackError, NotApplicableError) as reason:
        pytest.skip(str(reason))
