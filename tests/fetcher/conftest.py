from tests.fetcher.crash_setup import place
from tests.helpers.builds import publisher_environment, registry

__all__ = ["place", "publisher_environment", "registry"]
