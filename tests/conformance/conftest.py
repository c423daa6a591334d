from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3
from tests.helpers.time_limits import limits_lifted

__all__ = ["limits_lifted", "publisher_environment", "registry", "s3"]
