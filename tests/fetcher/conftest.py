from tests.helpers.builds import as_dana, registry

__all__ = ["as_dana", "registry"]
