from __future__ import annotations

from tests.helpers.builds import publisher_environment
from tests.helpers.time_limits import limits_lifted

__all__ = ["limits_lifted", "publisher_environment"]
