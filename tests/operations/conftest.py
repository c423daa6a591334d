from tests.helpers.builds import publisher_environment

__all__ = ["publisher_environment"]
