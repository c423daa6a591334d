from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3

__all__ = ["publisher_environment", "registry", "s3"]
