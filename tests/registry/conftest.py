from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3
from tests.helpers.time_limits import limits_lifted
from tests.registry.aged_registry import every_call, make_registry

__all__ = ["every_call", "limits_lifted", "make_registry", "publisher_environment", "registry", "s3"]
