from __future__ import annotations

from tests.fetcher.crash_setup import place
from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3
from tests.helpers.time_limits import limits_lifted

__all__ = ["limits_lifted", "place", "publisher_environment", "registry", "s3"]
