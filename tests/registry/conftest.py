from tests.helpers.builds import publisher_environment, registry

__all__ = ["publisher_environment", "registry"]
