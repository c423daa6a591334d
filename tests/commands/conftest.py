from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import s3
from tests.helpers.watch_process import home, watch, webhook

__all__ = ["home", "publisher_environment", "registry", "s3", "watch", "webhook"]
