from tests.helpers.builds import publisher_environment, registry
from tests.helpers.publisher import publisher

__all__ = ["publisher", "publisher_environment", "registry"]
