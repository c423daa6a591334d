"""The conformance suite as a pytest module; ``modeldrop.conformance`` says how to run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.place import NotApplicableError

if TYPE_CHECKING:
    from modeldrop.conformance.place import Place


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_conformance(check: Check, place: Place) -> None:
    """One promise of a store."""
    try:
        check.run(place)
    except NotApplicableError as reason:
        pytest.skip(str(reason))
