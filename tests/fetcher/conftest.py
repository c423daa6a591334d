from __future__ import annotations

from tests.fetcher.crash_setup import place
from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3

__all__ = ["place", "publisher_environment", "registry", "s3"]
