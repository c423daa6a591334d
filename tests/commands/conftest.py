from tests.helpers.builds import publisher_environment, registry
from tests.helpers.watch_process import home, notes, watch

__all__ = ["home", "notes", "publisher_environment", "registry", "watch"]
