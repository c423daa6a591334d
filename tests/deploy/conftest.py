from tests.builds import as_dana, registry
from tests.cli.test_watch import home, notes, watch

__all__ = ["as_dana", "home", "notes", "registry", "watch"]
