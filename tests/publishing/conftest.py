from tests.helpers.builds import publisher_environment, registry
from tests.helpers.publisher import publisher
from tests.helpers.time_limits import limits_lifted

__all__ = ["limits_lifted", "publisher", "publisher_environment", "registry"]
