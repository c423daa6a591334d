from tests.helpers.clouds import any_registry, cloud, cloud_registry, lookalike, servers

__all__ = ["any_registry", "cloud", "cloud_registry", "lookalike", "servers"]
