from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3
from tests.registry.aged_registry import every_call, make_registry

__all__ = ["every_call", "make_registry", "publisher_environment", "registry", "s3"]
