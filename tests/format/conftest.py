"""The profile of the property tests: quick here, the same examples at every run in CI."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "format",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("format")
