from tests.commands.test_watch import home, notes, watch
from tests.helpers.builds import as_dana, registry

__all__ = ["as_dana", "home", "notes", "registry", "watch"]
