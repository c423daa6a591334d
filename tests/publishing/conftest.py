from tests.helpers.builds import as_dana, registry
from tests.publishing.shop import shop

__all__ = ["as_dana", "registry", "shop"]
